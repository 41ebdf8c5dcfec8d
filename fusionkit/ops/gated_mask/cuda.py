"""The gated mask on the CUDA C++ kernels (csrc/kernels/cuda/gated_mask.cuh)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, seed_on, transform_reasons
from fusionkit.ops.cuda_runtime import NAMESPACE, cuda_reasons, define
from fusionkit.ops.gated_mask.autograd import GatedMask, fake_backward, fake_forward

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
    seed = None if dropout_p == 0.0 else seed_on(seed, x.device)
    tensors = [x, *gate_logits]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        tensors = apart(tensors)
        result: Tensor = GatedMask.apply(  # type: ignore[no-untyped-call]
            NAMESPACE, tensors[0], lengths, dropout_p, seed, *tensors[1:]
        )
        return result
    result = torch.ops.fusionkit_cuda.gated_mask.default(
        x, list(gate_logits), lengths, dropout_p, seed
    )
    return result


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


define(
    "gated_mask(Tensor x, Tensor[] gate_logits, Tensor? lengths, float dropout_p, Tensor? seed)"
    " -> Tensor",
    fake_forward,
)
define(
    "gated_mask_backward(Tensor grad_out, Tensor x, Tensor[] gate_logits, Tensor? lengths,"
    " float dropout_p, Tensor? seed, int needs) -> Tensor[]",
    fake_backward,
)
