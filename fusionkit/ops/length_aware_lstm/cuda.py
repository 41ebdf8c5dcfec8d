"""LSTMs on the CUDA recurrence (csrc/kernels/cuda/lstm.h): all of a call in one launch, float32.

It keeps the recurrent weights on the multiprocessors for all steps; `cuda_operators` has its
operators, and `cuda_plan` tells which blocks take what.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.cuda_runtime import EMULATED, NAMESPACE, cuda_reasons
from fusionkit.ops.length_aware_lstm.cuda_operators import blocks_at_once, hidden_sizes
from fusionkit.ops.length_aware_lstm.cuda_plan import plan, size_reason
from fusionkit.ops.length_aware_lstm.layers import MAX_INPUTS, run_layer, run_layers

# What cuDNN takes for a step of one direction: starting its kernels, or else half of the
# arithmetic that the device could do. From experience with other sizes, not measured here.
_CUDNN_CYCLES = 7500.0
_CUDNN_PRODUCTS_A_CYCLE = 64
_CYCLES_A_MICROSECOND = 1500.0


def run_cuda(
    input: Tensor,  # (B, T, D) float32
    lengths: Tensor | None,  # (B,)
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout_p: float = 0.0,
    training: bool = False,
    cell: str = "lstm",
    need_state: bool = False,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Takes the checked arguments of `length_aware_lstm`, as far as `lstm_reasons` is empty."""
    return run_layers(
        NAMESPACE, input, lengths, weights, num_layers, bidirectional, dropout_p, training,
        need_state,
    )  # fmt: skip


def run_cuda_group(
    inputs: Sequence[Tensor],  # each (B, T, D) float32
    lengths: Tensor | None,  # (B,)
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[Tensor]:
    """Takes checked arguments of the group, as far as `group_reasons` is empty."""
    flat = [w for own in weights for w in own]
    return run_layer(NAMESPACE, inputs, lengths, flat, bidirectional)[0]


def lstm_reasons(
    input: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout_p: float = 0.0,
    training: bool = False,
    cell: str = "lstm",
    need_state: bool = False,
) -> list[str]:
    """Why the kernels cannot take these inputs, given that they are there."""
    reasons = transform_reasons() + cuda_reasons("input", input, None)
    if cell != "lstm":
        reasons.append(f"cell is {cell!r}, the kernel has 'lstm' alone")
    if input.dtype in (torch.float16, torch.bfloat16):
        reasons.append(f"input is {input.dtype}, the kernel takes torch.float32")
    if not reasons:
        sizes = [size_reason(hidden, blocks_at_once(input)) for hidden in hidden_sizes(weights)]
        reasons += [reason for reason in sizes if reason]
    return list(dict.fromkeys(reasons))


def group_reasons(
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[str]:
    """Why the kernels cannot take these inputs, given that they are there."""
    if len(inputs) > MAX_INPUTS:
        return [f"{len(inputs)} inputs, the kernel takes up to {MAX_INPUTS}"]
    found = [r for x, own in zip(inputs, weights) for r in lstm_reasons(x, lengths, own)]
    return list(dict.fromkeys(found))


def lstm_slower_reasons(
    input: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    need_state: bool = False,
    **options: object,
) -> list[str]:
    """Why cuDNN is expected to be faster."""
    # It does not give the state after each length; what does is much slower.
    if need_state:
        return []
    first_layer = weights[: len(weights) // num_layers]
    return group_slower_reasons([input], lengths, [first_layer])


def group_slower_reasons(
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[str]:
    """Why cuDNN is expected to be faster, one LSTM after the other."""
    # A batch of any size is behind one compiled graph.
    if torch.compiler.is_compiling() or EMULATED:
        return []
    hidden = hidden_sizes([w for own in weights for w in own])
    batch, blocks = inputs[0].shape[0], blocks_at_once(inputs[0])
    ours = plan(hidden, batch, blocks, False).cycles
    theirs = sum(
        max(_CUDNN_CYCLES, 4.0 * batch * h * h / (_CUDNN_PRODUCTS_A_CYCLE * blocks)) for h in hidden
    )
    if ours <= theirs:
        return []
    return [
        f"estimated, not measured: {ours / _CYCLES_A_MICROSECOND:.1f} us a step, "
        f"cuDNN {theirs / _CYCLES_A_MICROSECOND:.1f}"
    ]
