"""Bring sequences of different lengths onto one time axis, sample by sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from fusionkit.ops.lengths import zero_padding


def resample(
    x: Tensor, lengths: Tensor, target_lengths: Tensor, *, most: int | None = None
) -> Tensor:
    """Average each sequence over equal parts of its valid time, differentiably.

    Step t of sample b is the mean of x[b] over the interval [t, t + 1) * lengths[b] /
    target_lengths[b], x being constant within a frame: averaging where the target is shorter (as
    word alignment averages audio and video frames), repetition where it is longer.

    Args:
        x: (B, T, D). lengths: (B,) in [0, T]. target_lengths: (B,) in [0, N], N its maximum.
        most: no target is longer. On an accelerator N is then this number, so that nothing waits
            for the device; the CPU takes the maximum all the same.

    Returns:
        (B, N, D), zero from ``target_lengths[b]`` on, and everywhere for a sequence of length 0.
    """
    if most is None or target_lengths.is_cpu:
        most = int(target_lengths.max()) if len(target_lengths) else 0
    steps = most
    # The integral of x up to every frame border; a part's mean is a difference of two values.
    integral = torch.nn.functional.pad(x.cumsum(dim=1), (0, 0, 1, 0))
    ratio = lengths.to(torch.float64) / target_lengths.clamp(min=1).to(torch.float64)
    borders = torch.arange(steps + 1, device=x.device, dtype=torch.float64) * ratio[:, None]
    borders = torch.minimum(borders, lengths[:, None].to(torch.float64))
    frame = torch.minimum(borders.floor().long(), (lengths[:, None] - 1).clamp(min=0))
    rest = (borders - frame).to(x.dtype)[..., None]
    index = frame[..., None].expand(-1, -1, x.shape[-1])
    at_border = integral.gather(1, index) + rest * x.gather(1, index)
    parts = torch.where(lengths > 0, ratio, 1.0)
    mean = at_border.diff(dim=1) / parts[:, None, None].to(x.dtype)
    return zero_padding(mean, torch.where(lengths > 0, target_lengths, 0))


def onto_one_axis(
    features: Mapping[str, Tensor],
    lengths: Mapping[str, Tensor],
    axis: Literal["shortest", "longest"],
) -> tuple[dict[str, Tensor], Tensor]:
    """`resample` every modality to each sample's shortest or longest one.

    Args:
        features: modality -> (B, T_m, D_m). lengths: modality -> (B,) in [0, T_m].

    Returns:
        Modality -> (B, T, D_m), and the lengths (B,) of all.
    """
    stacked = torch.stack([lengths[m] for m in features])
    longest, steps = axis == "longest", [x.shape[1] for x in features.values()]
    common = stacked.amax(dim=0) if longest else stacked.amin(dim=0)
    most = max(steps) if longest else min(steps)
    return {m: resample(x, lengths[m], common, most=most) for m, x in features.items()}, common
