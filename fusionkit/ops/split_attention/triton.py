"""Means and gains by segment on Triton kernels (`triton_kernels`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, transform_reasons
from fusionkit.ops.split_attention.autograd import (
    SegmentMean,
    SegmentScale,
    empty,
    fake_mean,
    fake_mean_backward,
    fake_scale,
    fake_scale_backward,
    is_channels_last,
)
from fusionkit.ops.triton_runtime import NAMESPACE, define, on_device_of, triton_reasons


def run_triton_mean(
    x: Tensor,  # (B, C, T, ...) or (B, C)
    *,
    num_segments: int = 1,
    lengths: Tensor | None = None,  # (B,)
) -> Tensor:  # (B, C, Q)
    """Takes the checked arguments of `segment_mean`, as far as `triton_mean_reasons` is empty.

    Half precision is computed in float32 and rounded once at the end.
    """
    flat, steps = _flat(x)
    if torch.is_grad_enabled() and x.requires_grad:
        result: Tensor = SegmentMean.apply(  # type: ignore[no-untyped-call]
            NAMESPACE, flat, steps, num_segments, lengths
        )
        return result
    result = torch.ops.fusionkit_triton.segment_mean.default(flat, steps, num_segments, lengths)
    return result


def run_triton_scale(
    x: Tensor,  # (B, C, T, ...) or (B, C)
    gains: Tensor,  # (B, C, Q)
    *,
    lengths: Tensor | None = None,  # (B,)
) -> Tensor:  # as x
    """Takes the checked arguments of `segment_scale`, as far as `triton_scale_reasons` is empty.

    Half precision is computed in float32 and rounded once at the end.
    """
    flat, steps = _flat(x)
    if torch.is_grad_enabled() and (x.requires_grad or gains.requires_grad):
        flat, gains = apart([flat, gains])
        result: Tensor = SegmentScale.apply(  # type: ignore[no-untyped-call]
            NAMESPACE, flat, gains, steps, lengths
        )
    else:
        result = torch.ops.fusionkit_triton.segment_scale.default(flat, gains, steps, lengths)
    return result.reshape(x.shape)


def triton_mean_reasons(
    x: Tensor, *, num_segments: int = 1, lengths: Tensor | None = None
) -> list[str]:
    """Why the kernels cannot take these inputs, given that Triton is installed."""
    return transform_reasons() + triton_reasons("x", x, None)


def triton_scale_reasons(x: Tensor, gains: Tensor, *, lengths: Tensor | None = None) -> list[str]:
    """Why the kernels cannot take these inputs, given that Triton is installed."""
    return transform_reasons() + triton_reasons("x", x, None)


def _flat(x: Tensor) -> tuple[Tensor, int]:
    """(B, C, N), with all that follows the time axis in N, and the steps of that axis."""
    if x.dim() == 2:
        return x.unsqueeze(2), 1
    return (x.flatten(2) if x.dim() > 3 else x), x.shape[2]


def _mean(x: Tensor, steps: int, num_segments: int, lengths: Tensor | None) -> Tensor:
    from fusionkit.ops.split_attention.triton_kernels import segment_mean_forward

    shape = (*x.shape[:2], num_segments)
    if not x.numel():
        return torch.zeros(shape, dtype=x.dtype, device=x.device)
    out, last = torch.empty(shape, dtype=x.dtype, device=x.device), is_channels_last(x)
    _launch(
        segment_mean_forward, [_laid(x, last), out], x.shape, steps, lengths, num_segments, last
    )
    return out


def _mean_backward(
    grad_out: Tensor, size: int, steps: int, lengths: Tensor | None, channels_last: bool
) -> Tensor:
    from fusionkit.ops.split_attention.triton_kernels import segment_mean_backward

    batch, channels, num_segments = grad_out.shape
    grad_x = empty(batch, channels, size, channels_last, grad_out)
    if grad_x.numel():
        _launch(
            segment_mean_backward, [grad_out.contiguous(), grad_x],
            grad_x.shape, steps, lengths, num_segments, channels_last,
        )  # fmt: skip
    return grad_x


def _scale(x: Tensor, gains: Tensor, steps: int, lengths: Tensor | None) -> Tensor:
    from fusionkit.ops.split_attention.triton_kernels import segment_scale_forward

    batch, channels, size = x.shape
    last = is_channels_last(x)
    out = empty(batch, channels, size, last, x)
    if out.numel():
        _launch(
            segment_scale_forward, [_laid(x, last), gains.contiguous(), out],
            x.shape, steps, lengths, gains.shape[2], last,
        )  # fmt: skip
    return out


def _scale_backward(
    grad_out: Tensor, x: Tensor, gains: Tensor, steps: int, lengths: Tensor | None, needs: int
) -> list[Tensor]:
    from fusionkit.ops.split_attention.triton_kernels import segment_scale_backward

    found = fake_scale_backward(grad_out, x, gains, steps, lengths, needs)
    if not x.numel():
        return [gradient.zero_() for gradient in found]
    if needs:
        last = is_channels_last(x)
        # What is not wanted is not written: any tensor may stand for it.
        _launch(
            segment_scale_backward,
            [_laid(grad_out, last), _laid(x, last), gains.contiguous(), found[0], found[-1]],
            x.shape, steps, lengths, gains.shape[2], last, NEEDS=needs,
        )  # fmt: skip
    return found


def _laid(x: Tensor, channels_last: bool) -> Tensor:
    """(B, C, N) in this layout, copied if it is in another."""
    return x.mT.contiguous().mT if channels_last else x.contiguous()


def _launch(
    kernel: Any,
    tensors: list[Tensor],
    shape: torch.Size,
    steps: int,
    lengths: Tensor | None,
    num_segments: int,
    channels_last: bool,
    **constants: Any,
) -> None:
    """Run a kernel over x of this shape, which has numbers in it."""
    from fusionkit.ops.split_attention.triton_kernels import NUM_WARPS, tiles

    batch, channels, size = shape
    inner, dtype = size // steps, tensors[0].dtype
    grid, tile = tiles(batch, channels, steps, inner, num_segments, channels_last, dtype)
    if channels_last:
        channels //= tile["UNIT"]
    else:
        inner //= tile["UNIT"]
    with on_device_of(tensors[0]):
        kernel[grid](
            *tensors, None if lengths is None else lengths.contiguous(),
            channels, steps, inner, num_segments,
            HAS_LENGTHS=lengths is not None, num_warps=NUM_WARPS, **tile, **constants,
        )  # fmt: skip


define(
    "segment_mean(Tensor x, SymInt steps, SymInt num_segments, Tensor? lengths) -> Tensor",
    _mean,
    fake_mean,
)
define(
    "segment_mean_backward(Tensor grad_out, SymInt size, SymInt steps, Tensor? lengths,"
    " bool channels_last) -> Tensor",
    _mean_backward,
    fake_mean_backward,
)
define(
    "segment_scale(Tensor x, Tensor gains, SymInt steps, Tensor? lengths) -> Tensor",
    _scale,
    fake_scale,
)
define(
    "segment_scale_backward(Tensor grad_out, Tensor x, Tensor gains, SymInt steps, Tensor? lengths,"
    " int needs) -> Tensor[]",
    _scale_backward,
    fake_scale_backward,
)
