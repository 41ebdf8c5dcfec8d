"""From the harness's sequences of flat features to what convolutional networks take."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from fusionkit import ConfigError


def to_steps(
    x: Tensor, lengths: Tensor, steps: int, *, linear: bool, start: Tensor | None = None
) -> Tensor:
    """Every sequence on the same number of steps, whatever its length.

    Step t of sample b is taken at start[b] + (t + 0.5) * lengths[b] / steps - 0.5, clipped to those
    frames: interpolation with corners not aligned, as the released NTU code does for skeletons.
    A sequence of the right length is left as it is.

    Args:
        x: (B, T, D). lengths: (B,) in [0, T]. steps: at least 1.
        linear: interpolate between the two nearest frames, or take the nearest one.
        start: (B,) first frame to use (default: 0); ``lengths`` counts from there.

    Returns:
        (B, steps, D); zeros for a sequence of length 0.
    """
    last = (lengths - 1).clamp(min=0)[:, None]
    at = torch.arange(steps, device=x.device, dtype=torch.float64)
    position = (at + 0.5) * lengths[:, None].to(torch.float64) / steps - 0.5
    position = torch.minimum(position.clamp(min=0), last.to(torch.float64))
    first = torch.zeros_like(last) if start is None else start[:, None]
    if linear:
        before = position.floor().long()
        share = (position - before).to(x.dtype)[..., None]
        after = torch.minimum(before + 1, last)
        found = _take(x, first + before).lerp(_take(x, first + after), share)
    else:
        # Half-way positions go to the later frame.
        found = _take(x, first + torch.minimum((position + 0.5).floor().long(), last))
    return torch.where((lengths > 0)[:, None, None], found, found.new_zeros(()))


def _take(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))


def frame_shape(field: str, features: int, channels: int, size: int, modality: str) -> int:
    """Height and width of a square frame of ``features`` numbers.

    Args:
        size: what the configuration says; 0 takes it from ``features``.

    Raises:
        ConfigError: the features are no such frame; ``field`` is the option to change.
    """
    found = size or isqrt(features // channels)
    if channels * found * found != features:
        raise ConfigError(
            f"{field}: {modality!r} has {features} features a frame, but {channels} x {found} x "
            f"{found} = {channels * found * found}; set {field} to the size of the data's frames, "
            "channel after channel"
        )
    return found


def as_clip(frames: Tensor, channels: int, size: int) -> Tensor:
    """(B, T, channels * size * size) to (B, channels, T, size, size)."""
    return frames.reshape(*frames.shape[:2], channels, size, size).transpose(1, 2)
