"""One of several cross-attentions that run in one call."""

from __future__ import annotations

from typing import NamedTuple

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
