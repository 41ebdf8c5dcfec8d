"""The gated mask on Triton kernels (`triton_kernels`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.gated_mask.autograd import (
    BACKWARD_SCHEMA,
    FORWARD_SCHEMA,
    fake_backward,
    fake_forward,
    run_on_device,
)
from fusionkit.ops.triton_runtime import NAMESPACE, define, on_device_of, triton_reasons

MAX_GATES = 8


def run_triton(
    x: Tensor,  # (B, T, D)
    gate_logits: Sequence[Tensor],  # each (B, T, D)
    *,
    lengths: Tensor | None = None,  # (B,) int64
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> Tensor:
    """Takes the checked arguments of `gated_mask`, as far as `gated_mask_reasons` is empty.

    Half precision is computed in float32 and rounded once at the end.
    """
    return run_on_device(NAMESPACE, x, gate_logits, lengths, dropout_p, seed)


def gated_mask_reasons(
    x: Tensor,
    gate_logits: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> list[str]:
    """Why the kernels cannot take these inputs, given that Triton is installed."""
    reasons = transform_reasons() + triton_reasons("x", x, seed)
    if len(gate_logits) > MAX_GATES:
        reasons.append(f"{len(gate_logits)} gates, the kernel takes up to {MAX_GATES}")
    return reasons


def _forward(
    x: Tensor,
    gate_logits: list[Tensor],
    lengths: Tensor | None,
    dropout_p: float,
    seed: Tensor | None,
) -> Tensor:
    from fusionkit.ops.gated_mask.triton_kernels import NUM_WARPS, gated_mask_forward

    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if not out.numel():
        return out
    grid, constants, numbers = _launch(x, lengths, dropout_p, seed)
    with on_device_of(x):
        gated_mask_forward[grid](
            x.contiguous(), tuple(gate.contiguous() for gate in gate_logits), out,
            *numbers, num_warps=NUM_WARPS, **constants,
        )  # fmt: skip
    return out


def _backward(
    grad_out: Tensor,
    x: Tensor,
    gate_logits: list[Tensor],
    lengths: Tensor | None,
    dropout_p: float,
    seed: Tensor | None,
    needs: int,
) -> list[Tensor]:
    from fusionkit.ops.gated_mask.triton_kernels import NUM_WARPS, gated_mask_backward

    wanted = [needs >> i & 1 for i in range(1 + len(gate_logits))]
    found = [torch.empty(x.shape, dtype=x.dtype, device=x.device) for want in wanted if want]
    if not x.numel() or not needs:
        return found
    # What is not wanted is not written: any tensor may stand for it.
    gradients = iter(found)
    grad_x, *grad_gates = [next(gradients) if want else found[0] for want in wanted]
    grid, constants, numbers = _launch(x, lengths, dropout_p, seed)
    with on_device_of(x):
        gated_mask_backward[grid](
            grad_out.contiguous(), x.contiguous(), tuple(gate.contiguous() for gate in gate_logits),
            grad_x, tuple(grad_gates), *numbers,
            NEEDS=needs, num_warps=NUM_WARPS, **constants,
        )  # fmt: skip
    return found


def _launch(
    x: Tensor, lengths: Tensor | None, dropout_p: float, seed: Tensor | None
) -> tuple[tuple[int, int], dict[str, Any], tuple[Any, ...]]:
    """Grid, constants, and lengths, seed, rows, steps, units, threshold and factor, in this order,
    as both kernels take them.
    """
    from fusionkit.ops.gated_mask.triton_kernels import tiles

    batch, steps, size = x.shape
    dropout, has_lengths = seed is not None, lengths is not None
    grid, constants = tiles(batch, steps, size, x.dtype, dropout=dropout, lengths=has_lengths)
    threshold, factor = math.floor(dropout_p * 2**32), 1.0 / (1.0 - dropout_p)
    contiguous = None if lengths is None else lengths.contiguous()
    units = size // constants["UNIT"]
    return grid, constants, (contiguous, seed, batch * steps, steps, units, threshold, factor)


define(FORWARD_SCHEMA, _forward, fake_forward)
define(BACKWARD_SCHEMA, _backward, fake_backward)
