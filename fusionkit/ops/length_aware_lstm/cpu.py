"""LSTMs on the compiled CPU kernel (csrc/kernels/cpu/lstm_impl.h): valid steps only, float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.extension import raise_if_broken
from fusionkit.ops.length_aware_lstm.autograd import run_layer

# The gradients that are needed are told to the kernel by the bits of a 64-bit number.
MAX_INPUTS = 62


def run_cpu(
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
    """Takes the checked arguments of `length_aware_lstm`, as far as `cpu_reasons` is empty."""
    share = len(weights) // num_layers
    states = []
    x = input
    for layer in range(num_layers):
        if layer:
            x = F.dropout(x, dropout_p, training)
        own = weights[layer * share : (layer + 1) * share]
        (x,), state = run_layer([x], lengths, own, bidirectional)
        states += state
    if not need_state:
        return x, None
    h_n, c_n = torch.stack(states, dim=1).unbind(0)
    return x, (h_n, c_n)


def cpu_reasons(
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
    """Why the kernel cannot take these inputs, given that it is installed."""
    raise_if_broken()
    reasons = transform_reasons()
    if cell != "lstm":
        reasons.append(f"cell is {cell!r}, the kernel has 'lstm' alone")
    if input.device.type != "cpu":
        reasons.append(f"input is on {input.device}, the kernel runs on the CPU")
    if input.dtype != torch.float32:
        reasons.append(f"input is {input.dtype}, the kernel takes torch.float32")
    return reasons


def run_cpu_group(
    inputs: Sequence[Tensor],  # each (B, T, D) float32
    lengths: Tensor | None,  # (B,)
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[Tensor]:
    """Takes checked arguments of the group, as far as `cpu_group_reasons` is empty."""
    return run_layer(inputs, lengths, [w for own in weights for w in own], bidirectional)[0]


def cpu_group_reasons(
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    weights: Sequence[Sequence[Tensor]],
    *,
    bidirectional: bool = False,
) -> list[str]:
    """Why the kernel cannot take these inputs, given that it is installed."""
    if len(inputs) > MAX_INPUTS:
        return [f"{len(inputs)} inputs, the kernel takes up to {MAX_INPUTS}"]
    reasons = (cpu_reasons(x, lengths, own) for x, own in zip(inputs, weights))
    return list(dict.fromkeys(reason for found in reasons for reason in found))
