"""The cross-modal fuser: symmetric attention over all pairs, a trimodal term, an attentive RNN."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from fusionkit.nn import (
    AttentiveRNN,
    Pooling,
    ProjectedAttention,
    SymmetricAttention,
    pool,
    pooled_size,
)
from fusionkit.ops import AttentionPair, cross_attention_pairs


class CrossModalAttention(nn.Module):
    """The concatenation of unimodal, bimodal and trimodal streams (section 3, eq. 1 to 3).

    For modalities t, a, v: ``t | a | v | m_ta | m_tv | m_av | attention(queries m_av, keys t)``.
    With two modalities the last term is left out; with more than three (ours) its queries are the
    sum of all pair streams that do not hold the first modality.

    Args:
        modalities: at least two names. size: features of every stream.
        dropout: on the attention weights.
    """

    def __init__(self, modalities: Sequence[str], size: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.pairs = tuple(combinations(self.modalities, 2))
        self.symmetric = nn.ModuleDict(
            {pair_name(*pair): SymmetricAttention(size, dropout) for pair in self.pairs}
        )
        three = len(self.modalities) >= 3
        self.trimodal = ProjectedAttention(size, dropout=dropout) if three else None
        self.output_size = size * (len(self.modalities) + len(self.pairs) + int(three))

    def forward(self, streams: Mapping[str, Tensor], lengths: Tensor | None = None) -> Tensor:
        """Fuse modality -> (B, T, size) on one time axis into (B, T, output_size).

        ``lengths`` (B,) keeps padding out; None lets it take part, as in the released code.
        """
        bimodal = self._bimodal(streams, lengths)
        parts = [*(streams[name] for name in self.modalities), *bimodal.values()]
        if self.trimodal is not None:
            text = self.modalities[0]
            queries = torch.stack([m for pair, m in bimodal.items() if text not in pair]).sum(dim=0)
            parts.append(
                self.trimodal(streams[text], queries, key_lengths=lengths, query_lengths=lengths)
            )
        return torch.cat(parts, dim=-1)

    def _bimodal(
        self, streams: Mapping[str, Tensor], lengths: Tensor | None
    ) -> dict[tuple[str, str], Tensor]:
        """m_pq of every pair of modalities; the attentions of all pairs run in one call."""
        attentions: list[AttentionPair] = []
        for pair in self.pairs:
            module = cast(SymmetricAttention, self.symmetric[pair_name(*pair)])
            first, second = (streams[name] for name in pair)
            both, dropout_p = module.pairs(
                first, second, first_lengths=lengths, second_lengths=lengths
            )
            attentions += both
        outputs = iter(cross_attention_pairs(attentions, scale=module.scale, dropout_p=dropout_p))
        bimodal = {}
        for p, q in self.pairs:
            to_first = next(outputs).squeeze(1) + streams[q]
            bimodal[p, q] = to_first + (next(outputs).squeeze(1) + streams[p])
        return bimodal


class CrossModalFuser(nn.Module):
    """`CrossModalAttention`, a bidirectional LSTM with self-attention, and pooling over time.

    Args:
        modalities, size, dropout: as `CrossModalAttention`. residual: as `AttentiveRNN`.
        padding_takes_part: the released behaviour: no mask in the attention, and the final sum
            runs over padded steps too.
        pooling: over time.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        size: int,
        *,
        dropout: float = 0.1,
        residual: bool = False,
        padding_takes_part: bool = False,
        pooling: Pooling = "sum",
    ) -> None:
        super().__init__()
        self.attention = CrossModalAttention(modalities, size, dropout)
        self.rnn = AttentiveRNN(
            self.attention.output_size, size, merge="concat", dropout=dropout, residual=residual
        )
        self.padding_takes_part, self.pooling = padding_takes_part, pooling
        self.output_size = pooled_size(2 * size, pooling)

    def forward(self, streams: Mapping[str, Tensor], lengths: Tensor) -> Tensor:
        """Modality -> (B, T, size) and lengths (B,) to (B, output_size)."""
        fused = self.attention(streams, None if self.padding_takes_part else lengths)
        encoded = self.rnn(fused, lengths, keep_padded_queries=self.padding_takes_part)
        if self.padding_takes_part:
            total: Tensor = encoded.sum(dim=1)
            return total
        return pool(encoded, lengths, self.pooling)


def pair_name(first: str, second: str) -> str:
    """Name of a pair's module."""
    return f"{first}_with_{second}"
