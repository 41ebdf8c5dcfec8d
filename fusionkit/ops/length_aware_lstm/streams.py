"""Several LSTMs through cuDNN at the same time: each on a CUDA stream of its own.

The streams begin with what the current stream has done and it waits for all of them, so that the
call looks like one on the current stream, also to a CUDA graph that is being captured. Autograd
runs each backward on the stream of its forward. It has not run on a device yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.length_aware_lstm.flip import run_flip

# More of them only take memory: each stream has a pool of its own.
MOST_STREAMS = 6


def run_streams(
    inputs: Sequence[Tensor],  # each (B, T, D) on one CUDA device
    lengths: Tensor | None,  # (B,)
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[Tensor]:
    """Takes checked arguments of the group, as far as `streams_reasons` is empty."""
    device = inputs[0].device
    current = torch.cuda.current_stream(device)
    others = _streams(device)[: len(inputs)]
    begun = current.record_event()
    for other in others:
        other.wait_event(begun)
    outputs = []
    for i, (x, own) in enumerate(zip(inputs, weights)):
        other = others[i % len(others)]
        with torch.cuda.stream(other):
            output, _ = run_flip(x, lengths, own, bidirectional=bidirectional)
        # Memory belongs to the stream that it was taken on. The backward reads the input on the
        # other stream, and the output goes on to the current one: neither may be reused meanwhile.
        x.record_stream(other)
        output.record_stream(current)
        outputs.append(output)
    for other in others:
        current.wait_event(other.record_event())
    return outputs


def streams_reasons(
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[str]:
    """Why the LSTMs cannot run on several streams."""
    reasons = transform_reasons()
    reasons += [f"an input is on {x.device}, not on a CUDA device" for x in inputs if not x.is_cuda]
    if len(inputs) < 2:
        reasons.append("there is one LSTM only")
    if torch.compiler.is_compiling():
        reasons.append("a compiled graph runs on one stream")
    return list(dict.fromkeys(reasons))


@cache
def _streams(device: torch.device) -> list[torch.cuda.Stream]:
    return [torch.cuda.Stream(device) for _ in range(MOST_STREAMS)]  # type: ignore[no-untyped-call]
