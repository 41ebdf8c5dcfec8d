"""From a sequence to one vector, over the valid steps."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from fusionkit.ops.lengths import within, zero_padding

Pooling = Literal["sum", "mean", "max", "mean_max"]


def pool(x: Tensor, lengths: Tensor, how: Pooling) -> Tensor:
    """Pool (B, T, D) over time.

    Args:
        x: zero or anything else on padding: it does not count. lengths: (B,) in [0, T].
        how: ``mean_max`` puts both side by side.

    Returns:
        (B, D), or (B, 2 D) for ``mean_max``; zeros for a sequence of length 0.
    """
    kept = zero_padding(x, lengths)
    if how == "sum":
        return kept.sum(dim=1)
    mean = kept.sum(dim=1) / lengths.clamp(min=1)[:, None].to(x.dtype)
    if how == "mean":
        return mean
    valid = within(lengths, x.shape[1])[..., None]
    lowest = torch.finfo(x.dtype).min
    largest = torch.where(valid, x, x.new_full((), lowest)).amax(dim=1)
    largest = torch.where((lengths > 0)[:, None], largest, torch.zeros_like(largest))
    return largest if how == "max" else torch.cat([mean, largest], dim=-1)


def pooled_size(size: int, how: Pooling) -> int:
    """Features after `pool`."""
    return 2 * size if how == "mean_max" else size
