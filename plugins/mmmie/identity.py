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


class ContextEmbedding(nn.Module):
    """Sum of learnt vectors that say what is known of a sample as a whole, such as who speaks.

    Args:
        counts: name -> number of its indices, 0 for unknown. size: features of a token.
        dropout: probability in [0, 1) that an index becomes 0 in training: the training data know
            all of theirs, and the vector of the unknown would stay as it was drawn.
    """

    def __init__(self, counts: Mapping[str, int], size: int, *, dropout: float = 0.1) -> None:
        super().__init__()
        self.names, self.dropout = tuple(counts), dropout
        # A list: as keys of a module, some names that data may have are taken.
        self.tables = nn.ModuleList(_table(count, size) for count in counts.values())

    def forward(self, context: Mapping[str, Tensor]) -> Tensor:
        """Name -> (B,) int64 to (B, 1, size)."""
        vectors = []
        for name, table in zip(self.names, self.tables):
            index = context[name]
            if self.training and self.dropout:
                index = index.masked_fill(
                    torch.rand(index.shape, device=index.device) < self.dropout, 0
                )
            vectors.append(table(index))
        return torch.stack(vectors).sum(dim=0)[:, None]


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
