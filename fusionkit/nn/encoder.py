"""A sequence encoder for any modality: convolution, bidirectional LSTM, attention and max pooling.

Ours, a plain recipe that does well on raw sensor streams and features alike. Methods that fuse
vectors take it in place of the paper's sub-networks, so that methods can be compared on equal
encoders.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit.nn.convolution import ConvFrontend
from fusionkit.nn.dropout import Dropout
from fusionkit.nn.pooling import pool
from fusionkit.nn.recurrent import LengthAwareRNN
from fusionkit.ops.lengths import within, zero_padding


class AttentionPooling(nn.Module):
    """Mean over the valid steps, weighted by a softmax of learnt scores.

    Args:
        size: features of the sequence.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Linear(size, 1)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, size) and lengths (B,) in [0, T] to (B, size); zeros for a length of 0."""
        valid = within(lengths, x.shape[1])
        kept = zero_padding(x, lengths)
        scores = self.score(kept).squeeze(-1)
        scores = scores.masked_fill(~valid, torch.finfo(scores.dtype).min)
        # With no valid step all weights are equal, over zeros.
        pooled: Tensor = (scores.softmax(dim=-1)[..., None] * kept).sum(dim=1)
        return pooled


class SequenceEncoder(nn.Module):
    """Convolution, bidirectional LSTM, then attention and max pooling side by side.

    Args:
        input_size: features D. hidden_size: channels of the convolution, and of each direction.
        kernel_size: odd width of the convolution. stride: frames an output step; 0: no convolution.
        dropout: on the outputs.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        kernel_size: int = 5,
        stride: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.frontend = None
        if stride:
            self.frontend = ConvFrontend(
                input_size, hidden_size, kernel_size=kernel_size, stride=stride
            )
        self.rnn = LengthAwareRNN(
            hidden_size if stride else input_size, hidden_size, bidirectional=True
        )
        self.attention = AttentionPooling(2 * hidden_size)
        self.dropout = Dropout(dropout)
        self.sequence_size, self.output_size = 2 * hidden_size, 4 * hidden_size

    def sequence(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, D) and lengths (B,) to (B, T', 2 hidden_size), zero on padding, and lengths."""
        if self.frontend is not None:
            x, lengths = self.frontend(x, lengths)
        return self.dropout(self.rnn(x, lengths)[0]), lengths

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and lengths (B,) to (B, 4 hidden_size)."""
        hidden, lengths = self.sequence(x, lengths)
        return torch.cat([self.attention(hidden, lengths), pool(hidden, lengths, "max")], dim=-1)
