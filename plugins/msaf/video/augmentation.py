"""What training does to clips and skeletons at random, as the released code does it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_AREA = (0.8, 1.4)
_RATIO = (3 / 4, 4 / 3)
_TRIALS = 10


def crop_and_flip(clip: Tensor, *, per_frame: bool) -> Tensor:
    """Random resized crop and horizontal flip, drawn for each sample or for each of its frames.

    The crop has 0.8 to 1.4 times the area of a frame and a ratio of 3/4 to 4/3; of ten draws the
    first that fits is taken, or the whole frame. Half of the crops are mirrored.

    Args:
        clip: (B, C, T, H, W). per_frame: frames of a clip get different crops (released code).

    Returns:
        The same shape, interpolated bilinearly.
    """
    batch, _, steps, *_ = clip.shape
    frames = clip.transpose(1, 2).flatten(0, 1)
    draws = len(frames) if per_frame else batch
    boxes = _boxes(draws, clip)
    if not per_frame:
        boxes = boxes.repeat_interleave(steps, dim=0)
    grid = F.affine_grid(boxes, list(frames.shape), align_corners=False)
    cropped = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
    return cropped.reshape(batch, steps, *frames.shape[1:]).transpose(1, 2)


def _boxes(count: int, like: Tensor) -> Tensor:
    """(count, 2, 3): where each crop lies, as `torch.nn.functional.affine_grid` takes it."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=like.dtype, device=like.device).uniform_(low, high)

    area = uniform(*_AREA, count, _TRIALS)
    low, high = (torch.tensor(r).log().item() for r in _RATIO)
    ratio = uniform(low, high, count, _TRIALS).exp()
    sides = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=-1)
    fits = (sides <= 1).all(dim=-1)
    first = fits.to(torch.uint8).argmax(dim=1)
    side = sides[torch.arange(count, device=like.device), first]
    side = torch.where(fits.any(dim=1)[:, None], side, torch.ones_like(side))
    centre = uniform(-1, 1, count, 2) * (1 - side)
    mirror = uniform(0, 1, count) < 0.5
    scale = side * torch.stack([1 - 2 * mirror.to(like.dtype), torch.ones_like(side[:, 1])], dim=1)
    return torch.cat([torch.diag_embed(scale), centre[..., None]], dim=-1)


def temporal_crop(
    lengths: Tensor, *, least: int = 1, centred: bool = False
) -> tuple[Tensor, Tensor]:
    """Random parts of sequences: at least half of the frames, and at least ``least`` of them.

    Args:
        lengths: (B,) frames there are. centred: the part lies in the middle (RGB in the released
            code), else anywhere (skeletons).

    Returns:
        (B,) first frame, (B,) frames.
    """
    kept = torch.empty(lengths.shape, device=lengths.device).uniform_(0.5, 1) * lengths
    kept = torch.minimum(kept.ceil().long().clamp(min=least), lengths)
    free = lengths - kept
    if centred:
        return free // 2, kept
    place = torch.rand(lengths.shape, device=lengths.device)
    return (place * (free + 1)).floor().long().clamp(max=free), kept
