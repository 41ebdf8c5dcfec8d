"""A strided convolution over time that respects lengths: a front end for raw sensor streams."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit.nn.dropout import Dropout
from fusionkit.ops.lengths import zero_padding


class ConvFrontend(nn.Module):
    """Convolution, layer norm, GELU; shortens the time axis by ``stride``.

    Args:
        input_size: features D. size: output features. kernel_size: odd, in frames.
        stride: frames an output step. dropout: on the output.
    """

    def __init__(
        self,
        input_size: int,
        size: int,
        *,
        kernel_size: int = 5,
        stride: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(
            input_size, size, kernel_size, stride=stride, padding=kernel_size // 2
        )
        self.norm = nn.LayerNorm(size)
        self.dropout = Dropout(dropout)
        self.stride = stride

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, input_size) and lengths (B,) to (B, ceil(T / stride), size) and its lengths.

        What stands on the padding has no influence; the output's padding is zero.
        """
        output = self.convolution(zero_padding(x, lengths).transpose(1, 2)).transpose(1, 2)
        output = self.dropout(nn.functional.gelu(self.norm(output)))
        new_lengths = (lengths + self.stride - 1) // self.stride
        return zero_padding(output, new_lengths), new_lengths
