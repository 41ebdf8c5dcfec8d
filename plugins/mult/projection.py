"""MulT's first and last layers: the temporal convolution to one width, and the residual head."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.nn import Dropout


class TemporalProjection(nn.Conv1d):
    """A bias-free convolution over time that keeps the number of steps.

    Args:
        input_size, size: features before and after. kernel_size: odd, in steps.
    """

    def __init__(self, input_size: int, size: int, kernel_size: int = 1) -> None:
        super().__init__(input_size, size, kernel_size, padding=kernel_size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, input_size), zero on padding, to (B, T, size)."""
        if self.kernel_size == (1,):
            return F.linear(x, self.weight.squeeze(-1))
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class ResidualHead(nn.Module):
    """``output(x + inner2(dropout(relu(inner1(x)))))``.

    Args:
        size: features. num_outputs: logits, or values of a regression. dropout: in between.
    """

    def __init__(self, size: int, num_outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner1, self.inner2 = nn.Linear(size, size), nn.Linear(size, size)
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(size, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, size) to (B, num_outputs)."""
        inner = self.inner2(self.dropout(F.relu(self.inner1(x))))
        output: Tensor = self.output(inner + x)
        return output
