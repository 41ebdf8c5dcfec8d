"""Several cross-attentions one after the other: what the others are tested against."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusionkit.ops.cross_attention import cross_attention
from fusionkit.ops.cross_attention_pairs.pair import AttentionPair


def run_reference(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[Tensor]:
    """Takes the checked arguments of `cross_attention_pairs`; each pair is dispatched by itself."""
    return [
        cross_attention(
            pair.query, pair.key, pair.value, key_lengths=pair.key_lengths,
            query_lengths=pair.query_lengths, scale=scale, dropout_p=dropout_p, seed=pair.seed,
        )
        for pair in pairs
    ]  # fmt: skip


def reference_reasons(*args: object, **kwargs: object) -> list[str]:
    """One after the other always works."""
    return []
