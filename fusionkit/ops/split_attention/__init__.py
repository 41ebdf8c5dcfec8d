"""What split attention and squeeze-and-excitation fusion do with large feature maps.

`segment_mean` squeezes a feature map to one value a channel, `segment_scale` multiplies every
channel by a gain; both by parts of the time axis where a sequence is cut into segments. What lies
between the two, on a few numbers a sample, is `fusionkit.nn.SplitAttention` (MSAF, Su et al. 2020)
and `fusionkit.nn.SqueezeExcitationFusion` (MMTM, Vaezi Joze et al., CVPR 2020).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops.arguments import check_lengths, is_autocasting
from fusionkit.ops.backends import Backend, choose, register_backend
from fusionkit.ops.split_attention.reference import (
    reference_reasons,
    run_segment_mean,
    run_segment_scale,
)
from fusionkit.ops.split_attention.triton import (
    run_triton_mean,
    run_triton_scale,
    triton_mean_reasons,
    triton_scale_reasons,
)
from fusionkit.ops.triton_runtime import triton_absence

__all__ = ["segment_mean", "segment_scale"]

for _op, _run, _triton, _reasons in (
    ("segment_mean", run_segment_mean, run_triton_mean, triton_mean_reasons),
    ("segment_scale", run_segment_scale, run_triton_scale, triton_scale_reasons),
):
    register_backend(
        Backend(
            op=_op,
            name="reference",
            run=_run,
            not_supported_reasons=reference_reasons,
            priority=0,
            summary="plain PyTorch; takes everything",
        )
    )
    register_backend(
        Backend(
            op=_op,
            name="triton",
            run=_triton,
            not_supported_reasons=_reasons,
            priority=20,
            summary="Triton kernel, one launch each way; not measured on a device yet",
            unavailable=triton_absence(),
        )
    )


def segment_mean(x: Tensor, *, num_segments: int = 1, lengths: Tensor | None = None) -> Tensor:
    """Mean of every channel over each segment of the time axis and all axes after it.

    A sequence of n steps is cut into ``num_segments`` parts of max(n // num_segments, 1) steps; the
    last part takes the rest. A part without steps has the mean 0.

    Args:
        x: (B, C, T, ...), floating point; or (B, C), a vector, its own mean.
        num_segments: parts Q of the time axis, at least 1; 1 for a vector.
        lengths: (B,) int64 in [0, T], valid steps of each sample: n is the sample's own length, and
            what stands on padding has no influence. None: n is T for all. Values out of range raise
            on the CPU only, and not inside `torch.compile`.

    Returns:
        (B, C, Q), in x's dtype, differentiable any number of times.

    Raises:
        DataError: a shape, dtype, device or length does not fit.
        ConfigError: ``num_segments`` is below 1.

    >>> segment_mean(torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0]]]), num_segments=2).tolist()
    [[[1.5, 4.0]]]
    """
    if num_segments < 1:
        raise ConfigError(f"num_segments must be at least 1, got {num_segments}")
    _check(x, num_segments, lengths)
    options = {"num_segments": num_segments, "lengths": lengths}
    backend = choose("segment_mean", x, **options)
    if is_autocasting(x):
        # A mean of many steps in half precision would lose what the autocast region did not ask to.
        with torch.autocast(x.device.type, enabled=False):
            mean: Tensor = backend.run(x, **options)
        return mean
    mean = backend.run(x, **options)
    return mean


def segment_scale(x: Tensor, gains: Tensor, *, lengths: Tensor | None = None) -> Tensor:
    """Multiply every channel by the gain of the segment that a step belongs to.

    Args:
        x: (B, C, T, ...), floating point; or (B, C), a vector.
        gains: (B, C, Q), for the segments that `segment_mean` cuts; of x's dtype and device. Under
            autocast the dtypes may differ; the widest is taken.
        lengths: as in `segment_mean`; padded steps give zeros and zero gradient, whatever stands
            there (NaN too).

    Returns:
        As x, differentiable any number of times.

    Raises:
        DataError: a shape, dtype, device or length does not fit.

    >>> segment_scale(torch.ones(1, 1, 4), torch.tensor([[[2.0, 3.0]]])).tolist()
    [[[2.0, 2.0, 3.0, 3.0]]]
    """
    autocasting = is_autocasting(x)
    if autocasting:
        dtype = torch.promote_types(x.dtype, gains.dtype)
        x, gains = x.to(dtype), gains.to(dtype)
    if gains.dim() != 3 or gains.shape[:2] != x.shape[:2] or gains.shape[2] < 1:
        raise DataError(
            f"gains must be (B, C, segments) beside x {tuple(x.shape)}, got {tuple(gains.shape)}"
        )
    _check(x, gains.shape[2], lengths)
    if gains.dtype != x.dtype:
        raise DataError(f"gains is {gains.dtype} and x {x.dtype}; give both one dtype")
    if gains.device != x.device:
        raise DataError(f"gains is on {gains.device} and x on {x.device}; move one")
    backend = choose("segment_scale", x, gains, lengths=lengths)
    if autocasting:
        with torch.autocast(x.device.type, enabled=False):
            scaled: Tensor = backend.run(x, gains, lengths=lengths)
        return scaled
    scaled = backend.run(x, gains, lengths=lengths)
    return scaled


def _check(x: Tensor, num_segments: int, lengths: Tensor | None) -> None:
    if x.dim() < 2:
        raise DataError(f"x must be (B, C) or (B, C, T, ...), got {tuple(x.shape)}")
    if not x.dtype.is_floating_point:
        raise DataError(f"x must be floating point, got {x.dtype}; convert it first")
    if x.dim() == 2 and (num_segments > 1 or lengths is not None):
        raise DataError("x is a vector (B, C): it has no time axis for segments or lengths")
    if lengths is not None:
        check_lengths("lengths", lengths, "x", x, x.shape[2])
