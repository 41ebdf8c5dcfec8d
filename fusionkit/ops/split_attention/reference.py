"""Means and gains by segment in plain PyTorch: the definition of both operators."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusionkit.ops.lengths import within


def membership(
    steps: int, num_segments: int, lengths: Tensor | None, like: Tensor
) -> Tensor:  # (B or 1, T, Q) of 0 and 1
    """Which segment every step belongs to; padded steps belong to none.

    A sequence of n steps is cut into Q segments of max(n // Q, 1) steps; the last takes the rest.
    """
    step = torch.arange(steps, device=like.device)
    if lengths is None:
        segment = (step // max(steps // num_segments, 1)).clamp(max=num_segments - 1)[None]
    else:
        part = (lengths // num_segments).clamp(min=1)[:, None]
        segment = (step // part).clamp(max=num_segments - 1)
        segment = segment.masked_fill(~within(lengths, steps), num_segments)
    names = torch.arange(num_segments, device=like.device)
    return (segment[..., None] == names).to(like.dtype)


def run_segment_mean(
    x: Tensor,  # (B, C, T, ...) or (B, C)
    *,
    num_segments: int = 1,
    lengths: Tensor | None = None,  # (B,)
) -> Tensor:  # (B, C, Q)
    """Takes the checked arguments of `segment_mean`; half precision is computed in float32."""
    dtype = x.dtype
    x = _compute(x)
    if lengths is None and num_segments == 1:
        total = x if x.dim() == 2 else x.flatten(2).sum(dim=-1)
        return (total / max(math.prod(x.shape[2:]), 1)).unsqueeze(2).to(dtype)
    x = _zero_padding(x, lengths)
    if x.dim() > 3:
        # Without a number a step has the mean 0, too.
        x = x.flatten(3).sum(dim=-1) / max(math.prod(x.shape[3:]), 1)
    member = membership(x.shape[2], num_segments, lengths, x)
    mean = x @ (member / member.sum(dim=1, keepdim=True).clamp(min=1.0))
    return mean.to(dtype)


def run_segment_scale(
    x: Tensor,  # (B, C, T, ...) or (B, C)
    gains: Tensor,  # (B, C, Q)
    *,
    lengths: Tensor | None = None,  # (B,)
) -> Tensor:  # as x
    """Takes the checked arguments of `segment_scale`; half precision is computed in float32."""
    dtype, num_segments = x.dtype, gains.shape[2]
    x, gains = _compute(x), _compute(gains)
    if x.dim() == 2:
        return (x * gains.squeeze(2)).to(dtype)
    if lengths is not None or num_segments > 1:
        x = _zero_padding(x, lengths)
        gains = gains @ membership(x.shape[2], num_segments, lengths, gains).mT
    gains = gains.reshape(*gains.shape, *[1] * (x.dim() - 3))
    return (x * gains).to(dtype)


def _compute(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _zero_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Padding may hold NaN, and 0 * NaN is NaN: it has to go before any product."""
    if lengths is None:
        return x
    padding = ~within(lengths, x.shape[2])[:, None]
    return x.masked_fill(padding.reshape(*padding.shape, *[1] * (x.dim() - 3)), 0.0)


def reference_reasons(*args: object, **kwargs: object) -> list[str]:
    """The reference takes everything."""
    return []
