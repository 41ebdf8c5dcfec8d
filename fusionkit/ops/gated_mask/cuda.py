"""The gated mask on the CUDA C++ kernels (csrc/kernels/cuda/gated_mask.cuh)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.cuda_runtime import NAMESPACE, cuda_reasons, define
from fusionkit.ops.gated_mask.autograd import (
    BACKWARD_SCHEMA,
    FORWARD_SCHEMA,
    fake_backward,
    fake_forward,
    run_on_device,
)

MAX_GATES = 8


def run_cuda(
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
    """Why the kernels cannot take these inputs, given that they are installed."""
    reasons = transform_reasons() + cuda_reasons("x", x, seed)
    if len(gate_logits) > MAX_GATES:
        reasons.append(f"{len(gate_logits)} gates, the kernel takes up to {MAX_GATES}")
    return reasons


define(FORWARD_SCHEMA, fake_forward)
define(BACKWARD_SCHEMA, fake_backward)
