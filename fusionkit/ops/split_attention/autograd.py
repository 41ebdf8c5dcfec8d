"""Gradients of the kernels of means and gains, and the shapes of their operators for tracing.

All take ``x`` as (B, C, N), with N = steps * inner: what follows the time axis is flattened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.split_attention.reference import run_segment_mean, run_segment_scale


class SegmentMean(torch.autograd.Function):
    """The mean of a namespace of operators; x is not kept, its gradient does not depend on it.

    With ``create_graph=True`` both backward passes here run the reference, for second derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        namespace: str,
        x: Tensor,  # (B, C, N)
        steps: int,
        num_segments: int,
        lengths: Tensor | None,  # (B,)
    ) -> Tensor:  # (B, C, Q)
        ctx.save_for_backward(lengths)
        ctx.namespace, ctx.steps, ctx.num_segments = namespace, steps, num_segments
        ctx.size, ctx.channels_last = x.shape[2], is_channels_last(x)
        result: Tensor = getattr(torch.ops, namespace).segment_mean.default(
            x, steps, num_segments, lengths
        )
        return result

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        (lengths,) = ctx.saved_tensors
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            x = grad_out.new_zeros((*grad_out.shape[:2], ctx.size), requires_grad=True)
            mean = run_segment_mean(
                by_steps(x, ctx.steps), num_segments=ctx.num_segments, lengths=lengths
            )
            (found,) = torch.autograd.grad(mean, x, grad_out, create_graph=True)
        else:
            found = getattr(torch.ops, ctx.namespace).segment_mean_backward.default(
                grad_out, ctx.size, ctx.steps, lengths, ctx.channels_last
            )
        return None, found, None, None, None


class SegmentScale(torch.autograd.Function):
    """The product of a namespace of operators."""

    @staticmethod
    def forward(
        ctx: Any,
        namespace: str,
        x: Tensor,  # (B, C, N)
        gains: Tensor,  # (B, C, Q)
        steps: int,
        lengths: Tensor | None,  # (B,)
    ) -> Tensor:  # (B, C, N)
        ctx.save_for_backward(x, gains, lengths)
        ctx.namespace, ctx.steps = namespace, steps
        result: Tensor = getattr(torch.ops, namespace).segment_scale.default(
            x, gains, steps, lengths
        )
        return result

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        x, gains, lengths = ctx.saved_tensors
        _, for_x, for_gains, _, _ = ctx.needs_input_grad
        found: Sequence[Tensor]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # Views keep the inputs apart where one tensor is given twice.
            views = x.view_as(x), gains.view_as(gains)
            result = run_segment_scale(by_steps(views[0], ctx.steps), views[1], lengths=lengths)
            wanted = [view for view, need in zip(views, (for_x, for_gains)) if need]
            found = torch.autograd.grad(result.flatten(2), wanted, grad_out, create_graph=True)
        else:
            found = getattr(torch.ops, ctx.namespace).segment_scale_backward.default(
                grad_out, x, gains, ctx.steps, lengths, for_x | for_gains << 1
            )
        gradients = iter(found)
        grad_x, grad_gains = [next(gradients) if need else None for need in (for_x, for_gains)]
        return None, grad_x, grad_gains, None, None


def by_steps(x: Tensor, steps: int) -> Tensor:
    """(B, C, N) as (B, C, steps, inner)."""
    return x.reshape(*x.shape[:2], steps, x.shape[2] // max(steps, 1))


def is_channels_last(x: Tensor) -> bool:
    """Whether (B, C, N) lies in memory as (B, N, C) would."""
    return not x.is_contiguous() and x.mT.is_contiguous()


def empty(batch: int, channels: int, size: int, channels_last: bool, like: Tensor) -> Tensor:
    """(batch, channels, size) in one of the two layouts."""
    if channels_last:
        return like.new_empty((batch, size, channels)).mT
    return like.new_empty((batch, channels, size))


def fake_mean(x: Tensor, steps: int, num_segments: int, lengths: Tensor | None) -> Tensor:
    """Shape of the means."""
    return x.new_empty((*x.shape[:2], num_segments))


def fake_mean_backward(
    grad_out: Tensor, size: int, steps: int, lengths: Tensor | None, channels_last: bool
) -> Tensor:
    """Shape and layout of the gradient of x."""
    return empty(grad_out.shape[0], grad_out.shape[1], size, channels_last, grad_out)


def fake_scale(x: Tensor, gains: Tensor, steps: int, lengths: Tensor | None) -> Tensor:
    """Shape and layout of x."""
    return empty(x.shape[0], x.shape[1], x.shape[2], is_channels_last(x), x)


def fake_scale_backward(
    grad_out: Tensor, x: Tensor, gains: Tensor, steps: int, lengths: Tensor | None, needs: int
) -> list[Tensor]:
    """Shapes of the gradients that the bits of ``needs`` ask for: x, then the gains."""
    found = []
    if needs & 1:
        found.append(empty(x.shape[0], x.shape[1], x.shape[2], is_channels_last(x), x))
    if needs & 2:
        found.append(gains.new_empty(gains.shape))
    return found
