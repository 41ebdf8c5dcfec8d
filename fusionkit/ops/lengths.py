"""From lengths to masks: the one place that says which steps of a padded batch are real."""

from __future__ import annotations

import torch
from torch import Tensor


def within(lengths: Tensor, size: int) -> Tensor:
    """(B,) lengths to (B, size) bool: True on the first ``lengths[b]`` positions of row b."""
    return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)


def zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T, D) with zeros beyond ``lengths`` (B,), whatever stood there; NaN too."""
    return torch.where(within(lengths, x.shape[1])[..., None], x, x.new_zeros(()))
