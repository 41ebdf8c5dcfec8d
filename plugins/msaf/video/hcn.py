"""HCN, the skeleton network of MSAF on NTU: convolutions whose channels are, in turn, joints."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.nn import Dropout


def motion(skeleton: Tensor) -> Tensor:
    """Differences of successive frames, stretched back to T steps bilinearly.

    Args:
        skeleton: (B, coordinates, T, joints, persons), T at least 2.

    Returns:
        The same shape.
    """
    difference = skeleton.diff(dim=2)
    # (B, coordinates * persons, T - 1, joints): time and joints are the image axes.
    image = difference.permute(0, 1, 4, 2, 3).flatten(1, 2)
    size = (skeleton.shape[2], skeleton.shape[3])
    stretched = F.interpolate(image, size=size, mode="bilinear", align_corners=False)
    each = stretched.reshape(*skeleton.shape[:2], skeleton.shape[4], *size)
    return each.permute(0, 1, 3, 4, 2)


class Branch(nn.Module):
    """Positions or motion of one person: per joint first, then over all joints at once.

    Args:
        coordinates: of a joint. joints: of a person. steps: length of a sequence. width: channels.
        dropout: of whole channels, after the last convolution.
    """

    def __init__(
        self, coordinates: int, joints: int, steps: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(coordinates, width, 1)
        self.conv2 = nn.Conv2d(width, steps, (3, 1), padding=(1, 0))
        self.conv3 = nn.Conv2d(joints, width // 2, 3, padding=1)
        self.conv4 = nn.Conv2d(width // 2, width, 3, padding=1)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(B, coordinates, T, joints) to (B, width, T / 4, steps / 4)."""
        x = self.conv2(self.conv1(x).relu())
        # The joints become the channels: from here on a kernel sees all of them.
        x = F.max_pool2d(self.conv3(x.permute(0, 3, 2, 1)), 2)
        return F.max_pool2d(self.dropout(self.conv4(x)), 2)


class HCN(nn.Module):
    """Hierarchical co-occurrence network (Li, Zhong, Xie, Pu; IJCAI 2018), cut where MSAF fuses.

    The same weights see every person; persons are joined by the element-wise maximum.

    Args:
        num_outputs: logits. coordinates: of a joint. joints: of a person. steps: length of a
            sequence, a multiple of 16. width: channels of the first convolution, even.
        dropout: of channels after the fourth to sixth convolution and of features after fc7.
    """

    def __init__(
        self,
        num_outputs: int = 60,
        *,
        coordinates: int = 3,
        joints: int = 25,
        steps: int = 32,
        width: int = 64,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        self.position = Branch(coordinates, joints, steps, width, dropout)
        self.motion = Branch(coordinates, joints, steps, width, dropout)
        self.conv5 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.conv6 = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.dropout2d = nn.Dropout2d(dropout)
        self.dropout = Dropout(dropout)
        self.fc7 = nn.Linear(4 * width * (steps // 16) ** 2, 8 * width)
        self.fc8 = nn.Linear(8 * width, num_outputs)
        self.person_channels, self.vector_size = 2 * width, 8 * width

    def persons(self, skeleton: Tensor) -> list[Tensor]:
        """(B, coordinates, steps, joints, persons) to conv5 of each, (B, 2 width, T/8, T/8)."""
        moved, found = motion(skeleton), []
        for person in range(skeleton.shape[-1]):
            both = [self.position(skeleton[..., person]), self.motion(moved[..., person])]
            x = self.conv5(torch.cat(both, dim=1)).relu()
            found.append(F.max_pool2d(self.dropout2d(x), 2))
        return found

    def vector(self, persons: Sequence[Tensor]) -> Tensor:
        """conv6 of each person, their maximum, and fc7: (B, 8 width)."""
        each = [F.max_pool2d(self.dropout2d(self.conv6(x).relu()), 2) for x in persons]
        joined = torch.stack(each).amax(dim=0)
        output: Tensor = self.dropout(self.fc7(joined.flatten(1)).relu())
        return output

    def head(self, vector: Tensor) -> Tensor:
        """(B, 8 width) to logits (B, num_outputs)."""
        output: Tensor = self.fc8(vector)
        return output

    def forward(self, skeleton: Tensor) -> Tensor:
        """(B, coordinates, steps, joints, persons) to logits (B, num_outputs)."""
        return self.head(self.vector(self.persons(skeleton)))
