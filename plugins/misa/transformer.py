"""The fusion transformer: post-norm encoder layers over a few vectors a sample."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit.nn import Dropout
from fusionkit.nn.dropout import dropout_seed
from fusionkit.ops import cross_attention


class PostNormLayer(nn.Module):
    """Self-attention and a feed-forward part, each added to its input and normalised.

    What `torch.nn.TransformerEncoderLayer` computes by default (Vaswani et al. 2017, section 3.1).

    Args:
        size: features D. heads: divides D. feedforward_size: inner width.
        dropout: on attention weights, inner features and both sums.
    """

    def __init__(self, size: int, heads: int, feedforward_size: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.projection = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.attention_norm = nn.LayerNorm(size)
        self.expand = nn.Linear(size, feedforward_size)
        self.contract = nn.Linear(feedforward_size, size)
        self.feedforward_norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)
        nn.init.xavier_uniform_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, D) to the same."""
        x = self.attention_norm(x + self.dropout(self._attend(x)))
        inner = self.dropout(self.expand(x).relu())
        normed: Tensor = self.feedforward_norm(x + self.dropout(self.contract(inner)))
        return normed

    def _attend(self, x: Tensor) -> Tensor:
        # (B, L, 3 D) to query, key and value of (B, heads, L, D / heads).
        parts = self.projection(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        dropout_p, seed = dropout_seed(self.dropout, self.dropout.p, x.device)
        attended = cross_attention(query, key, value, dropout_p=dropout_p, seed=seed)
        output: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return output
