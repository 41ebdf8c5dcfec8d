"""3D ResNeXt, the video network of MSAF on RAVDESS."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

_EXPANSION = 2


class Bottleneck(nn.Module):
    """1x1x1, grouped 3x3x3 and 1x1x1 convolution around a shortcut.

    Args:
        channels: of the input. planes: half the output's channels. stride: of the 3x3x3
            convolution, in time and space. cardinality: groups, each of planes / 32 channels (at
            least one).
    """

    def __init__(self, channels: int, planes: int, *, stride: int, cardinality: int) -> None:
        super().__init__()
        middle = cardinality * max(1, planes // 32)
        self.conv1 = nn.Conv3d(channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(middle)
        self.conv2 = nn.Conv3d(
            middle, middle, 3, stride=stride, padding=1, groups=cardinality, bias=False
        )
        self.bn2 = nn.BatchNorm3d(middle)
        self.conv3 = nn.Conv3d(middle, _EXPANSION * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(_EXPANSION * planes)
        self.downsample = None
        if stride != 1 or channels != _EXPANSION * planes:
            self.downsample = nn.Sequential(
                nn.Conv3d(channels, _EXPANSION * planes, 1, stride=stride, bias=False),
                nn.BatchNorm3d(_EXPANSION * planes),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T, H, W) to (B, 2 planes, T / stride, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        output: Tensor = (self.bn3(self.conv3(y)) + shortcut).relu()
        return output


class ResNeXt3D(nn.Module):
    """3D ResNeXt-50 with projection shortcuts (Hara, Kataoka, Satoh; CVPR 2018).

    `stem` ends before the first fusion of MSAF, `body` before the second.

    Args:
        channels: of a frame. num_outputs: logits. width: channels of the first convolution.
        layers: blocks of each of the four stages. cardinality: groups of a 3x3x3 convolution.
        stem_relu: a ReLU between the first normalisation and the pooling. The released code loses
            it when it cuts the network for the fusion.
    """

    def __init__(
        self,
        num_outputs: int = 8,
        *,
        channels: int = 3,
        width: int = 64,
        layers: Sequence[int] = (3, 4, 6, 3),
        cardinality: int = 32,
        stem_relu: bool = True,
    ) -> None:
        super().__init__()
        self.stem_relu = stem_relu
        self.conv1 = nn.Conv3d(channels, width, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d(3, stride=2, padding=1)
        sizes = [_EXPANSION * 2 * width * 2**stage for stage in range(4)]
        self.layer1 = _stage(width, sizes[0], layers[0], stride=1, cardinality=cardinality)
        self.layer2 = _stage(sizes[0], sizes[1], layers[1], stride=2, cardinality=cardinality)
        self.layer3 = _stage(sizes[1], sizes[2], layers[2], stride=2, cardinality=cardinality)
        self.layer4 = _stage(sizes[2], sizes[3], layers[3], stride=2, cardinality=cardinality)
        self.fc = nn.Linear(sizes[3], num_outputs)
        self.stem_channels, self.body_channels = sizes[2], sizes[3]
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def stem(self, clip: Tensor) -> Tensor:
        """(B, channels, T, H, W) to (B, 16 width, T / 8, H / 16, W / 16), sizes rounded up."""
        x = self.bn1(self.conv1(clip))
        x = self.pool(x.relu() if self.stem_relu else x)
        output: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return output

    def body(self, x: Tensor) -> Tensor:
        """(B, 16 width, T / 8, H / 16, W / 16) to (B, 32 width, T / 16, H / 32, W / 32)."""
        output: Tensor = self.layer4(x)
        return output

    def head(self, x: Tensor) -> Tensor:
        """Mean over time and space, and the linear layer: (B, 32 width, ...) to logits."""
        output: Tensor = self.fc(x.mean(dim=(2, 3, 4)))
        return output

    def forward(self, clip: Tensor) -> Tensor:
        """(B, channels, T, H, W) to logits (B, num_outputs)."""
        return self.head(self.body(self.stem(clip)))


def _stage(
    channels: int, outputs: int, blocks: int, *, stride: int, cardinality: int
) -> nn.Sequential:
    planes = outputs // _EXPANSION
    first = Bottleneck(channels, planes, stride=stride, cardinality=cardinality)
    rest = [
        Bottleneck(outputs, planes, stride=1, cardinality=cardinality) for _ in range(1, blocks)
    ]
    return nn.Sequential(first, *rest)
