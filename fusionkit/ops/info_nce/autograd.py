"""Gradients of the InfoNCE kernels, and the shapes of their operators for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.info_nce.reference import run_reference


class InfoNCE(torch.autograd.Function):
    """The forward and backward of a namespace of operators; the backward recomputes the scores.

    With ``create_graph=True`` the backward runs the reference instead, for second derivatives.
    """

    @staticmethod
    def forward(ctx: Any, namespace: str, queries: Tensor, keys: Tensor, scale: float) -> Tensor:
        losses, normalisers = getattr(torch.ops, namespace).info_nce.default(queries, keys, scale)
        ctx.save_for_backward(queries, keys, normalisers)
        ctx.namespace, ctx.scale = namespace, scale
        result: Tensor = losses
        return result

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, normalisers = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:3]
        found: Sequence[Tensor]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # Views keep the inputs apart where one tensor is given twice.
            views = queries.view_as(queries), keys.view_as(keys)
            losses = run_reference(*views, scale=ctx.scale)
            wanted = [view for view, need in zip(views, needed) if need]
            found = torch.autograd.grad(losses, wanted, grad_out, create_graph=True)
        else:
            found = getattr(torch.ops, ctx.namespace).info_nce_backward.default(
                grad_out, queries, keys, normalisers, ctx.scale, needed[0] | needed[1] << 1
            )
        gradients = iter(found)
        grad_queries, grad_keys = [next(gradients) if need else None for need in needed]
        return None, grad_queries, grad_keys, None


def fake_forward(queries: Tensor, keys: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Shapes of the losses and of the normalisers, the latter in float32."""
    count = queries.shape[0]
    return queries.new_empty(count), queries.new_empty(count, dtype=torch.float32)


def fake_backward(
    grad_out: Tensor, queries: Tensor, keys: Tensor, normalisers: Tensor, scale: float, needs: int
) -> list[Tensor]:
    """Shapes of the gradients that the bits of ``needs`` ask for: queries, then keys."""
    return [queries.new_empty(queries.shape) for _ in range(needs.bit_count())]
