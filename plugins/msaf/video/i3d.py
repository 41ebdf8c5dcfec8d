"""I3D: Inception-v1 with its kernels inflated over time, a video network of MSAF on NTU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.nn import Dropout

# Channels of each Inception module: 1x1x1 | 1x1x1 then 3x3x3 | 1x1x1 then 3x3x3 | after pooling.
_MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}
_STEM_WIDTH = 64


class ConvUnit(nn.Module):
    """Convolution without bias, batch normalisation, ReLU; the output covers the whole input.

    Args:
        channels: in. outputs: channels out. kernel: of every axis. stride: of every axis.
    """

    def __init__(self, channels: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, outputs, kernel, stride=stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=0.001)
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T, H, W) to (B, outputs, T / stride, ...), sizes rounded up."""
        output: Tensor = self.bn(self.conv(_pad(x, self.kernel, self.stride))).relu()
        return output


class Mixed(nn.Module):
    """An Inception module: four branches side by side.

    Args:
        channels: in. sizes: see `_MIXED`.
    """

    def __init__(self, channels: int, sizes: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce1, three1, reduce2, three2, pooled = sizes
        self.branch0 = ConvUnit(channels, one, 1)
        self.branch1 = nn.Sequential(ConvUnit(channels, reduce1, 1), ConvUnit(reduce1, three1, 3))
        self.branch2 = nn.Sequential(ConvUnit(channels, reduce2, 1), ConvUnit(reduce2, three2, 3))
        self.branch3 = ConvUnit(channels, pooled, 1)
        self.output_channels = one + three1 + three2 + pooled

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T, H, W) to (B, output_channels, T, H, W)."""
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(pooled)]
        return torch.cat(branches, dim=1)


class I3D(nn.Module):
    """Inception-v1 inflated (Carreira, Zisserman; CVPR 2017), cut where MSAF fuses.

    Args:
        num_outputs: logits. channels: of a frame. width: channels of the first convolution; all
            others keep the published ratio to it. dropout: before the last layer.
        norm_momentum: share of a batch in the running statistics.
    """

    def __init__(
        self,
        num_outputs: int = 60,
        *,
        channels: int = 3,
        width: int = 64,
        dropout: float = 0.5,
        norm_momentum: float = 0.01,
    ) -> None:
        super().__init__()

        def scaled(size: int) -> int:
            return max(1, size * width // _STEM_WIDTH)

        self.conv_1a = ConvUnit(channels, width, 7, stride=2)
        self.conv_2b = ConvUnit(width, width, 1)
        self.conv_2c = ConvUnit(width, scaled(192), 3)
        size, mixed = scaled(192), {}
        for name, (a, b, c, d, e, f) in _MIXED.items():
            own = (scaled(a), scaled(b), scaled(c), scaled(d), scaled(e), scaled(f))
            mixed[name] = Mixed(size, own)
            size = mixed[name].output_channels
        self.mixed = nn.ModuleDict(mixed)
        self.dropout = Dropout(dropout)
        self.logits = nn.Conv3d(size, num_outputs, 1)
        self.stem_channels, self.body_channels = mixed["5b"].output_channels, size
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.momentum = norm_momentum

    def stem(self, clip: Tensor) -> Tensor:
        """(B, channels, T, H, W) to Mixed 5b, (B, 13 width, T / 8, H / 32, W / 32)."""
        x = _max_pool(self.conv_1a(clip), (1, 3, 3), (1, 2, 2))
        x = _max_pool(self.conv_2c(self.conv_2b(x)), (1, 3, 3), (1, 2, 2))
        for name, module in self.mixed.items():
            if name == "4b":
                x = _max_pool(x, (3, 3, 3), (2, 2, 2))
            if name == "5b":
                x = _max_pool(x, (2, 2, 2), (2, 2, 2))
            if name != "5c":
                x = module(x)
        return x

    def body(self, x: Tensor) -> Tensor:
        """Mixed 5c: (B, 13 width, ...) to (B, 16 width, ...), the other sizes unchanged."""
        output: Tensor = self.mixed["5c"](x)
        return output

    def head(self, x: Tensor) -> Tensor:
        """(B, 16 width, T, H, W) to logits (B, num_outputs): pooled, classified, mean over time."""
        pooled = F.avg_pool3d(x, (min(2, x.shape[2]), x.shape[3], x.shape[4]), stride=1)
        output: Tensor = self.logits(self.dropout(pooled)).mean(dim=(2, 3, 4))
        return output

    def forward(self, clip: Tensor) -> Tensor:
        """(B, channels, T, H, W) to logits (B, num_outputs)."""
        return self.head(self.body(self.stem(clip)))


def _pad(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    """Zeros so that windows start at every ``stride`` and cover all; the odd one goes last."""
    amounts: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride)):
        total = max(k - (size % s or s), 0)
        amounts += [total // 2, total - total // 2]
    return F.pad(x, amounts)


def _max_pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    # Inputs are outputs of a ReLU: zeros never win over them.
    return F.max_pool3d(_pad(x, kernel, stride), kernel, stride)
