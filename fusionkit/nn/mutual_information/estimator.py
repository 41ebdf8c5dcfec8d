"""What all estimators of mutual information have in common."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.func import functional_call

from fusionkit.errors import DataError


class Estimator(nn.Module):
    """A bound on I(x; y) that has a network to fit.

    Attributes:
        upper_bound: the value lies above I(x; y), as far as the class says, and is minimised over
            x and y; a lower bound is maximised over them and over its own network.
    """

    upper_bound: ClassVar[bool]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy)."""
        raise NotImplementedError

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """The loss, a scalar, that fits the network to N pairs."""
        raise NotImplementedError

    def frozen(self, x: Tensor, y: Tensor) -> Tensor:
        """`forward` with gradients for x and y, and none for the network."""
        constants = {name: p.detach() for name, p in self.named_parameters()}
        bound: Tensor = functional_call(self, constants, (x, y))
        return bound


def check_pairs(x: Tensor, y: Tensor, least: int = 1) -> int:
    """Number of pairs N.

    Raises:
        DataError: x or y is not (N, D), their N differ, or N is below ``least``.
    """
    if x.dim() != 2 or y.dim() != 2 or len(x) != len(y):
        raise DataError(
            f"x and y must be (N, Dx) and (N, Dy), got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if len(x) < least:
        raise DataError(f"{len(x)} pairs are too few for this bound, it needs {least}")
    return len(x)
