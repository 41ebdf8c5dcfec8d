"""From a sequence of one modality to one utterance vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit.nn import LengthAwareRNN, SequenceEncoder, last_step, pool
from fusionkit_plugins.misa.config import MISAConfig


class StackedRNN(nn.Module):
    """Two bidirectional recurrent networks with a layer norm between.

    Args:
        input_size: features D. hidden_size: of one direction (paper: D). cell: ``lstm`` or ``gru``.
    """

    def __init__(self, input_size: int, hidden_size: int, cell: str = "lstm") -> None:
        super().__init__()
        size = 2 * hidden_size
        self.first = LengthAwareRNN(
            input_size, hidden_size, bidirectional=True, cell="gru" if cell == "gru" else "lstm"
        )
        self.norm = nn.LayerNorm(size)
        self.second = LengthAwareRNN(size, hidden_size, bidirectional=True, cell=self.first.cell)
        self.output_size = 2 * size
        # As the released training script does.
        for name, parameter in self.named_parameters():
            if "weight_hh" in name:
                nn.init.orthogonal_(parameter)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and lengths (B,) to (B, 4 hidden_size).

        The final states of the first forward, second forward, first backward and second backward
        network, in this order.
        """
        hidden = self.first(x, lengths)[0]
        outputs = (hidden, self.second(self.norm(hidden), lengths)[0])
        # Of the padded output: asking for the state would have packed sequences, which are slower.
        states = [last_step(output, lengths, bidirectional=True) for output in outputs]
        # (B, network, direction, H): the direction has to come first.
        apart = torch.stack(states, dim=1).reshape(x.shape[0], 2, 2, self.first.hidden_size)
        return apart.transpose(1, 2).flatten(1)


class TimeMean(nn.Module):
    """Mean over the valid steps, as for the outputs of a language model.

    Args:
        input_size: features D.
    """

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.output_size = input_size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and lengths (B,) to (B, D); zeros for a length of 0."""
        return pool(x, lengths, "mean")


def build_encoder(
    kind: str, input_size: int, config: MISAConfig, stride: int
) -> StackedRNN | TimeMean | SequenceEncoder:
    """The encoder of one modality; all have ``output_size``."""
    if kind == "mean":
        return TimeMean(input_size)
    if kind == "conv_bilstm":
        return SequenceEncoder(
            input_size,
            config.frontend_size,
            kernel_size=config.frontend_kernel,
            stride=stride,
            dropout=config.encoder_dropout,
        )
    return StackedRNN(input_size, config.rnn_size or input_size, config.cell)
