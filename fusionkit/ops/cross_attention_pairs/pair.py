"""One of several cross-attentions that run in one call, and what is asked of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def reasons_of_each(
    pairs: Sequence[AttentionPair], dropout_p: float, reasons: Callable[..., list[str]]
) -> list[str]:
    """Why a kernel of `cross_attention` cannot take the pairs, each reason with its pair's place.

    Args:
        reasons: takes query, key, value and ``seed``, which counts where there is dropout.
    """
    found = []
    for i, p in enumerate(pairs):
        seed = p.seed if dropout_p > 0.0 else None
        found += [f"pairs[{i}]: {reason}" for reason in reasons(p.query, p.key, p.value, seed=seed)]
    return found


def unlike_reasons(pairs: Sequence[AttentionPair]) -> list[str]:
    """Why one launch cannot take all pairs: a dtype or device that is not that of the first."""
    return [
        f"pairs[{i}]: {what} is {getattr(p.query, what)}, that of pairs[0] is "
        f"{getattr(pairs[0].query, what)}"
        for i, p in enumerate(pairs)
        for what in ("dtype", "device")
        if getattr(p.query, what) != getattr(pairs[0].query, what)
    ]
