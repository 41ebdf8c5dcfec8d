"""Tensor fusion: a vector of each modality by a small sub-network, and their outer product.

TFN (Zadeh et al., EMNLP 2017), whose sub-networks LMF and Self-MM use too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.nn.dropout import Dropout
from fusionkit.nn.encoder import SequenceEncoder
from fusionkit.nn.pooling import pool
from fusionkit.nn.recurrent import LengthAwareRNN, last_step


def tensor_fusion(vectors: Sequence[Tensor]) -> Tensor:
    """Outer product of all vectors, each with a one before its first entry (TFN's fusion layer).

    The ones keep the vectors themselves and the products of fewer vectors in the result. The last
    vector's index runs fastest.

    Args:
        vectors: (B, H_m) each, at least one.

    Returns:
        (B, product of all (H_m + 1)).
    """
    product = F.pad(vectors[0], (1, 0), value=1.0)
    for vector in vectors[1:]:
        with_one = F.pad(vector, (1, 0), value=1.0)
        product = (product.unsqueeze(2) * with_one.unsqueeze(1)).flatten(1)
    return product


def tensor_fusion_size(sizes: Iterable[int]) -> int:
    """Features that `tensor_fusion` gives for vectors of these sizes.

    >>> tensor_fusion_size([4, 16, 64])
    5525
    """
    return math.prod(size + 1 for size in sizes)


class BatchOfOneNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` that takes a training batch of one, which has no variance.

    Such a batch is normalised by the running statistics and leaves them as they are (ours).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, features) to the same shape."""
        if self.training and len(x) == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class MeanSubNetwork(nn.Module):
    """Mean over time, batch normalisation, dropout, three linear layers, each with a ReLU.

    TFN's sub-network for audio and video.

    Args:
        input_size: features of the sequence. output_size: of the vector and all layers between.
        dropout: on the normalised mean.
    """

    def __init__(self, input_size: int, output_size: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = BatchOfOneNorm(input_size)
        self.dropout = Dropout(dropout)
        self.linear_1 = nn.Linear(input_size, output_size)
        self.linear_2 = nn.Linear(output_size, output_size)
        self.linear_3 = nn.Linear(output_size, output_size)
        self.output_size = output_size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, input_size) and lengths (B,) in [0, T] to (B, output_size)."""
        hidden: Tensor = self.dropout(self.norm(pool(x, lengths, "mean")))
        for layer in (self.linear_1, self.linear_2, self.linear_3):
            hidden = torch.relu(layer(hidden))
        return hidden


class RecurrentSubNetwork(nn.Module):
    """Last state of a one-directional LSTM, dropout, a linear layer.

    TFN's sub-network for text; Self-MM's for audio and video (``AuViSubNet``).

    Args:
        input_size: features of the sequence. hidden_size: of the LSTM. output_size: of the vector.
        dropout: on the last state.
    """

    def __init__(
        self, input_size: int, hidden_size: int, output_size: int, *, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.rnn = LengthAwareRNN(input_size, hidden_size)
        self.dropout = Dropout(dropout)
        self.linear_1 = nn.Linear(hidden_size, output_size)
        self.output_size = output_size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, input_size) and lengths (B,) in [0, T] to (B, output_size)."""
        # A sequence of length 0 takes the last step of its padding, which is zero.
        last = last_step(self.rnn(x, lengths)[0], lengths, bidirectional=False)
        vector: Tensor = self.linear_1(self.dropout(last))
        return vector


class SequenceSubNetwork(nn.Module):
    """`SequenceEncoder`, dropout, a linear layer: ours, for raw sensor streams.

    Args:
        input_size: features of the sequence. hidden_size, kernel_size, stride: of the encoder.
        output_size: of the vector. dropout: on what the encoder gives.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        kernel_size: int = 5,
        stride: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.encoder = SequenceEncoder(
            input_size, hidden_size, kernel_size=kernel_size, stride=stride
        )
        self.dropout = Dropout(dropout)
        self.linear_1 = nn.Linear(self.encoder.output_size, output_size)
        self.output_size = output_size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, input_size) and lengths (B,) in [0, T] to (B, output_size)."""
        vector: Tensor = self.linear_1(self.dropout(self.encoder(x, lengths)))
        return vector
