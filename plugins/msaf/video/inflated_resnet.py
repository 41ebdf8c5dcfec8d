"""ResNet-50 with its kernels inflated over time, the other video network of MSAF on NTU."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fusionkit_plugins.msaf.video.bottleneck import stage

_EXPANSION = 4


class InflatedResNet(nn.Module):
    """ResNet-50 (He et al., CVPR 2016) over clips, cut where MSAF fuses; time is not strided.

    Which kernels the network of the published checkpoint inflates is not known: here the first
    convolution and every 3x3 one get three steps in time.

    Args:
        num_outputs: logits. channels: of a frame. width: channels of the first convolution.
        layers: blocks of each of the four stages.
    """

    def __init__(
        self,
        num_outputs: int = 60,
        *,
        channels: int = 3,
        width: int = 64,
        layers: Sequence[int] = (3, 4, 6, 3),
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(
            channels, width, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        sizes = [_EXPANSION * width * 2**stage for stage in range(4)]
        self.layer1 = _stage(width, sizes[0], layers[0], stride=1)
        self.layer2 = _stage(sizes[0], sizes[1], layers[1], stride=2)
        self.layer3 = _stage(sizes[1], sizes[2], layers[2], stride=2)
        self.layer4 = _stage(sizes[2], sizes[3], layers[3], stride=2)
        self.fc = nn.Linear(sizes[3], num_outputs)
        self.stem_channels, self.body_channels = sizes[2], sizes[3]
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def stem(self, clip: Tensor) -> Tensor:
        """(B, channels, T, H, W) to (B, 16 width, T, H / 16, W / 16), sizes rounded up."""
        x = self.pool(self.bn1(self.conv1(clip)).relu())
        output: Tensor = self.layer3(self.layer2(self.layer1(x)))
        return output

    def body(self, x: Tensor) -> Tensor:
        """(B, 16 width, T, H / 16, W / 16) to (B, 32 width, T, H / 32, W / 32)."""
        output: Tensor = self.layer4(x)
        return output

    def head(self, x: Tensor) -> Tensor:
        """Mean over time and space, and the linear layer: (B, 32 width, ...) to logits."""
        output: Tensor = self.fc(x.mean(dim=(2, 3, 4)))
        return output

    def forward(self, clip: Tensor) -> Tensor:
        """(B, channels, T, H, W) to logits (B, num_outputs)."""
        return self.head(self.body(self.stem(clip)))


def _stage(channels: int, outputs: int, blocks: int, *, stride: int) -> nn.Sequential:
    return stage(channels, outputs // _EXPANSION, outputs, blocks, stride=(1, stride, stride))
