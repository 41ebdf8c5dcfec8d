"""From a sequence of one modality to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit.nn import Dropout, LengthAwareRNN, SequenceEncoder, pool


class LastState(nn.Module):
    """Last state of an LSTM, dropout, a linear layer.

    Args:
        input_size: features D. hidden_size: units of a direction. output_size: of the result.
        num_layers, bidirectional: of the LSTM. dropout: between its layers and on the state.
        first_layer: with both directions, take the states of the first layer, as the released code
            does, not of the last.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        first_layer: bool = False,
    ) -> None:
        super().__init__()
        self.rnn = LengthAwareRNN(
            input_size,
            hidden_size,
            num_layers=num_layers,
            bidirectional=bidirectional,
            dropout=dropout,
        )
        self.first_layer = first_layer and bidirectional
        self.dropout = Dropout(dropout)
        self.linear = nn.Linear(self.rnn.output_size, output_size)
        self.output_size = output_size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and lengths (B,) to (B, output_size)."""
        _, (states, _) = self.rnn(x, lengths, need_state=True)
        directions = 2 if self.rnn.bidirectional else 1
        states = states[:directions] if self.first_layer else states[-directions:]
        output: Tensor = self.linear(self.dropout(torch.cat(list(states), dim=-1)))
        return output


class Summary(nn.Module):
    """`SequenceEncoder` and a linear layer (ours).

    Args:
        input_size: features D. hidden_size, kernel_size, stride, dropout: of the encoder.
        output_size: of the result.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        kernel_size: int,
        stride: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.encoder = SequenceEncoder(
            input_size, hidden_size, kernel_size=kernel_size, stride=stride, dropout=dropout
        )
        self.linear = nn.Linear(self.encoder.output_size, output_size)
        self.output_size = output_size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and lengths (B,) to (B, output_size)."""
        output: Tensor = self.linear(self.encoder(x, lengths))
        return output


class TimeSummary(nn.Module):
    """The first step of a sequence, or the mean of its steps: nothing to train.

    Args:
        input_size: features D. how: ``first`` or ``mean``.
    """

    def __init__(self, input_size: int, how: str) -> None:
        super().__init__()
        self.output_size, self.how = input_size, how

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and lengths (B,) to (B, D); zeros for a length of 0."""
        if self.how == "first":
            x, lengths = x[:, :1], lengths.clamp(max=1)
        return pool(x, lengths, "mean")
