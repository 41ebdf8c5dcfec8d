"""The attention mask of MulT: how far ahead a step may look in another sequence."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def lookahead_mask(
    lengths: Tensor, source_lengths: Tensor, steps: int, source_steps: int
) -> Tensor:
    """A bias on the scores: step i sees source step j where ``j <= i + |n - m|``.

    The released code takes the padded lengths of the batch for n and m.

    Args:
        lengths, source_lengths: (B,) valid steps n and m. steps, source_steps: padded ones.

    Returns:
        (B, 1, steps, source_steps) float32, 0 or -inf.
    """
    device = lengths.device
    ahead = torch.arange(source_steps, device=device) - torch.arange(steps, device=device)[:, None]
    allowed = (lengths - source_lengths).abs()[:, None, None, None]
    zero = torch.zeros((), device=device)
    return torch.where(ahead > allowed, zero - math.inf, zero)
