"""3D ResNeXt, the video network of MSAF on RAVDESS."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fusionkit_plugins.msaf.video.bottleneck import stage

_EXPANSION = 2


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
    # Each group has a 32nd of the planes, at least one channel.
    middle = cardinality * max(1, outputs // _EXPANSION // 32)
    return stage(
        channels, middle, outputs, blocks, stride=(stride, stride, stride), groups=cardinality
    )
