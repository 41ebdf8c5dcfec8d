"""Gradient reversal: the identity whose gradient is turned around."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, scale: float) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.scale = inputs[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient * -ctx.scale, None


def gradient_reversal(x: Tensor, scale: float = 1.0) -> Tensor:
    """``x`` itself; its gradient is multiplied by ``-scale`` (Ganin and Lempitsky, ICML 2015).

    What stands before it is trained to make worse what stands behind it is trained to make better.

    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> (gradient_reversal(x, scale=0.5) * 4).sum().backward()
    >>> x.grad
    tensor([-2., -2.])
    """
    reversed_: Tensor = _Reverse.apply(x, scale)  # type: ignore[no-untyped-call]
    return reversed_
