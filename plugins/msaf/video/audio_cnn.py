"""The audio network of MSAF on RAVDESS: a 1D CNN on mel-frequency cepstral coefficients."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit.nn import Dropout

_POOL = 8


class AudioCNN(nn.Module):
    """Three convolutions over time and a linear layer (released code, ``networks/mfcc_cnn.py``).

    `stem` and `body` are the parts before and after the first fusion, `head` the rest after the
    second; `forward` runs them all.

    Args:
        coefficients: cepstral coefficients a step. steps: length of the input, at least 12: the
            linear layer knows it. num_outputs: logits. width: channels; the last convolution has
            twice as many. dropout: after the second normalisation. head_dropout: before the
            linear layer.
    """

    def __init__(
        self,
        coefficients: int = 13,
        steps: int = 212,
        num_outputs: int = 8,
        *,
        width: int = 32,
        dropout: float = 0.2,
        head_dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(coefficients, width, 7, padding=2)
        self.bn1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, 7, padding=2)
        self.bn2 = nn.BatchNorm1d(width)
        self.dropout = Dropout(dropout)
        self.conv3 = nn.Conv1d(width, 2 * width, 5, padding=2)
        self.bn3 = nn.BatchNorm1d(2 * width)
        self.head_dropout = Dropout(head_dropout)
        self.fc1 = nn.Linear(2 * width * ((steps - 4) // _POOL), num_outputs)
        self.stem_channels, self.body_channels = width, 2 * width

    def stem(self, mfcc: Tensor) -> Tensor:
        """(B, coefficients, steps) to (B, width, steps - 4)."""
        x = self.bn1(self.conv1(mfcc).relu())
        output: Tensor = self.conv2(x).relu()
        return output

    def body(self, x: Tensor) -> Tensor:
        """(B, width, steps - 4) to (B, 2 width, (steps - 4) // 8)."""
        x = self.dropout(self.bn2(nn.functional.max_pool1d(x, _POOL)))
        output: Tensor = self.bn3(self.conv3(x).relu())
        return output

    def head(self, x: Tensor) -> Tensor:
        """(B, 2 width, (steps - 4) // 8) to logits (B, num_outputs)."""
        output: Tensor = self.fc1(self.head_dropout(x.flatten(1)))
        return output

    def forward(self, mfcc: Tensor) -> Tensor:
        """(B, coefficients, steps) to logits (B, num_outputs)."""
        return self.head(self.body(self.stem(mfcc)))
