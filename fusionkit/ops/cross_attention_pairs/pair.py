"""One of several cross-attentions that run in one call, and the lengths of all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class AttentionPair(NamedTuple):
    """Arguments of `cross_attention` that differ from pair to pair.

    Args:
        query: (B, H, Tq, D). key: (B, H, Tk, D). value: (B, H, Tk, Dv). Pairs may differ in all
            sizes.
        key_lengths, query_lengths: (B,) int64, or None where all steps are valid.
        seed: of this pair's dropout mask, an int or a 0-d int64 tensor; give each its own.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    key_lengths: Tensor | None = None
    query_lengths: Tensor | None = None
    seed: int | Tensor | None = None


def lengths_of_all(lengths: Sequence[Tensor | None], padded: Sequence[Tensor]) -> list[Tensor]:
    """Lengths for every pair where one of them has any, else none.

    Args:
        lengths: (B,) of each pair, or None. padded: (B, H, T, D), what they are lengths of.
    """
    if all(n is None for n in lengths):
        return []
    return [
        torch.full((x.shape[0],), x.shape[2], dtype=torch.int64, device=x.device)
        if n is None
        else n
        for n, x in zip(lengths, padded)
    ]
