"""Lengths of the variant ``70 %``."""

from __future__ import annotations

import torch
from torch import Tensor


def forty_to_hundred_percent(steps: int, batch: int) -> Tensor:
    """(B,) int64 lengths, evenly from 40 to 100 % of ``steps``, 70 % on average, in mixed order.

    >>> sorted(forty_to_hundred_percent(50, 4).tolist())
    [20, 30, 40, 50]
    """
    even = (torch.linspace(0.4, 1.0, batch) * steps).round().long()
    return even[torch.randperm(batch, generator=torch.Generator().manual_seed(0))]
