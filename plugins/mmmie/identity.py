"""Identity Embedding, and the one sequence that the tokens of all modalities make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fusionkit.ops.lengths import within, zero_padding


class IdentityEmbedding(nn.Module):
    """Adds learnt vectors that say which modality and which step a token comes from.

    Args:
        modalities: their names. size: features of a token.
        modality, position: whether there are such vectors.
        max_positions: number of position vectors, which all modalities share; later steps have
            the last.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        size: int,
        *,
        modality: bool = True,
        position: bool = True,
        max_positions: int = 512,
    ) -> None:
        super().__init__()
        self.index = {name: k for k, name in enumerate(modalities)}
        self.modality = _table(len(self.index), size) if modality else None
        self.position = _table(max_positions, size) if position else None

    def forward(self, tokens: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Modality -> (B, T_m, size), to the same shapes."""
        marked = {}
        for name, x in tokens.items():
            if self.modality is not None:
                x = x + self.modality.weight[self.index[name]]
            if self.position is not None:
                steps = torch.arange(x.shape[1], device=x.device)
                x = x + self.position(steps.clamp(max=self.position.num_embeddings - 1))
            marked[name] = x
        return marked


def join_sequences(sequences: Sequence[Tensor], lengths: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The valid steps of several padded sequences one after the other, padding at the end.

    Args:
        sequences: (B, T_m, D) each. lengths: (B,) in [0, T_m] each.

    Returns:
        (B, sum of T_m, D), zero on padding, and lengths (B,), the sums.
    """
    x = torch.cat(list(sequences), dim=1)
    valid = torch.cat([within(n, s.shape[1]) for s, n in zip(sequences, lengths)], dim=1)
    order = valid.logical_not().to(torch.int8).argsort(dim=1, stable=True)
    total = torch.stack(list(lengths)).sum(dim=0)
    joined = x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))
    return zero_padding(joined, total), total


def _table(count: int, size: int) -> nn.Embedding:
    table = nn.Embedding(count, size)
    nn.init.normal_(table.weight, std=0.02)
    return table
