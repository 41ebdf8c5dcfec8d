"""The gated mask on the compiled CPU kernel (csrc/kernels/cpu/gated_mask_impl.h)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, as_tensor, transform_reasons
from fusionkit.ops.extension import raise_if_broken
from fusionkit.ops.gated_mask.autograd import GatedMask

MAX_GATES = 8


def run_cpu(
    x: Tensor,  # (B, T, D) float32
    gate_logits: Sequence[Tensor],  # each (B, T, D) float32
    *,
    lengths: Tensor | None = None,  # (B,) int64
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> Tensor:
    """Takes the checked arguments of `gated_mask`, as far as `cpu_reasons` is empty."""
    seed = None if dropout_p == 0.0 else as_tensor(seed)
    if torch.is_grad_enabled() and _needs_gradient(x, gate_logits):
        x, *gate_logits = apart([x, *gate_logits])
        result: Tensor = GatedMask.apply(  # type: ignore[no-untyped-call]
            "fusionkit", x, lengths, dropout_p, seed, *gate_logits
        )
        return result
    result = torch.ops.fusionkit.gated_mask.default(x, list(gate_logits), lengths, dropout_p, seed)
    return result


def _needs_gradient(x: Tensor, gate_logits: Sequence[Tensor]) -> bool:
    if x.requires_grad:
        return True
    for gate in gate_logits:  # noqa: SIM110  # any() of a generator takes twice the time
        if gate.requires_grad:
            return True
    return False


def cpu_reasons(
    x: Tensor,
    gate_logits: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> list[str]:
    """Why the kernel cannot take these inputs, given that it is installed."""
    raise_if_broken()
    reasons = transform_reasons()
    if not x.is_cpu:
        reasons.append(f"x is on {x.device}, the kernel runs on the CPU")
    if x.dtype != torch.float32:
        reasons.append(f"x is {x.dtype}, the kernel takes torch.float32")
    if len(gate_logits) > MAX_GATES:
        reasons.append(f"{len(gate_logits)} gates, the kernel takes up to {MAX_GATES}")
    if isinstance(seed, Tensor) and not seed.is_cpu:
        reasons.append(f"seed is on {seed.device}, the kernel runs on the CPU")
    return reasons
