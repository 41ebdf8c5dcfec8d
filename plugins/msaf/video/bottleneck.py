"""The residual block of the 3D networks, and a stage of such blocks."""

from __future__ import annotations

from torch import Tensor, nn

Steps = tuple[int, int, int]


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 and 1x1x1 convolution around a shortcut (He et al., CVPR 2016).

    Args:
        channels, middle, outputs: of the input, of the 3x3x3 convolution, and of the output.
        stride: of the 3x3x3 convolution and the shortcut, in time, height and width.
        groups: of the 3x3x3 convolution.
    """

    def __init__(
        self, channels: int, middle: int, outputs: int, *, stride: Steps, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(middle)
        self.conv2 = nn.Conv3d(
            middle, middle, 3, stride=stride, padding=1, groups=groups, bias=False
        )
        self.bn2 = nn.BatchNorm3d(middle)
        self.conv3 = nn.Conv3d(middle, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(outputs)
        self.downsample = None
        if stride != (1, 1, 1) or channels != outputs:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, outputs, 1, stride=stride, bias=False),
                nn.BatchNorm3d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T, H, W) to (B, outputs, T, H, W), the last three over the stride."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        output: Tensor = (self.bn3(self.conv3(y)) + shortcut).relu()
        return output


def stage(
    channels: int, middle: int, outputs: int, blocks: int, *, stride: Steps, groups: int = 1
) -> nn.Sequential:
    """``blocks`` blocks, of which the first has the stride."""
    first = Bottleneck(channels, middle, outputs, stride=stride, groups=groups)
    rest = [
        Bottleneck(outputs, middle, outputs, stride=(1, 1, 1), groups=groups)
        for _ in range(1, blocks)
    ]
    return nn.Sequential(first, *rest)
