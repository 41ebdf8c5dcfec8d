"""LSTMs on the compiled CPU kernel (csrc/kernels/cpu/lstm_impl.h): valid steps only, float32."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.extension import raise_if_broken
from fusionkit.ops.length_aware_lstm.layers import MAX_INPUTS, run_layer, run_layers


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
    return run_layers(
        "fusionkit", input, lengths, weights, num_layers, bidirectional, dropout_p, training,
        need_state,
    )  # fmt: skip


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
    flat = [w for own in weights for w in own]
    return run_layer("fusionkit", inputs, lengths, flat, bidirectional)[0]


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
