"""Dropout on the compiled CPU kernel (csrc/kernels/cpu/dropout_impl.h)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.arguments import as_tensor, transform_reasons
from fusionkit.ops.extension import AVAILABLE, raise_if_broken


class Dropout(torch.autograd.Function):
    """The kernel; its backward is the same mask on the gradient, so it is its own derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float, seed: Tensor) -> Tensor:
        ctx.save_for_backward(seed)
        ctx.p = p
        result: Tensor = torch.ops.fusionkit.dropout.default(x, p, seed)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None, None]:
        (seed,) = ctx.saved_tensors
        return run_cpu(grads[0], ctx.p, seed), None, None


def run_cpu(x: Tensor, p: float, seed: int | Tensor) -> Tensor:
    """Takes the checked arguments of `dropout`, as far as `cpu_reasons` is empty."""
    seed = as_tensor(seed)
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = Dropout.apply(x, p, seed)  # type: ignore[no-untyped-call]
        return result
    result = torch.ops.fusionkit.dropout.default(x, p, seed)
    return result


def cpu_reasons(x: Tensor, p: float, seed: int | Tensor) -> list[str]:
    """Why the kernel cannot take these inputs, given that it is installed."""
    raise_if_broken()
    reasons = transform_reasons()
    if x.device.type != "cpu":
        reasons.append(f"x is on {x.device}, the kernel runs on the CPU")
    if x.dtype != torch.float32:
        reasons.append(f"x is {x.dtype}, the kernel takes torch.float32")
    if isinstance(seed, Tensor) and seed.device.type != "cpu":
        reasons.append(f"seed is on {seed.device}, the kernel runs on the CPU")
    return reasons


def _fake(x: Tensor, p: float, seed: Tensor) -> Tensor:
    return x.new_empty(x.shape)


if AVAILABLE:
    torch.library.register_fake("fusionkit::dropout", _fake)
