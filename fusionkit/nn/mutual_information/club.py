"""CLUB: log q(y | x) of the pairs minus that of all combinations (Cheng et al. 2020)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.errors import DataError
from fusionkit.nn.mutual_information.conditional import (
    GaussianConditional,
    contrast,
    fitting_loss,
    network,
)
from fusionkit.nn.mutual_information.estimator import Estimator, check_pairs


class CLUB(Estimator):
    """mean_i [log q(y_i | x_i) - mean_j log q(y_j | x_i)] with a Gaussian q (vCLUB).

    Above I(x; y) where q is p(y | x), or near enough to it; ``learning_loss`` brings it there. The
    mean over j, which includes i, needs the mean and variance of y alone: O(N D), no (N, N, D).

    Args:
        x_size, y_size: features. hidden_size: of the default `GaussianConditional`.
        conditional: another q, a module x -> (mean, log-variance), each (N, y_size).
    """

    upper_bound: ClassVar[bool] = True

    def __init__(
        self, x_size: int, y_size: int, hidden_size: int, *, conditional: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.conditional: Any = conditional or GaussianConditional(x_size, y_size, hidden_size)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy)."""
        check_pairs(x, y)
        mean, log_variance = self.conditional(x)
        return contrast(y, mean, (-log_variance).exp())

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean of sum (y - mean)^2 / variance + log variance, as the released code has it."""
        check_pairs(x, y)
        return fitting_loss(y, *self.conditional(x))


class CLUBSample(CLUB):
    """CLUB with the mean over j replaced by one random partner, a permutation of the batch.

    Args:
        x_size, y_size, hidden_size, conditional: as in `CLUB`.
    """

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        index: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy).

        ``index`` (N,) int64 is the permutation, drawn from ``generator`` (default: torch's for the
        device of y) where it is not given; it may have fixed points.
        """
        count = check_pairs(x, y)
        if index is None:
            device = y.device if generator is None else generator.device
            index = torch.randperm(count, generator=generator, device=device).to(y.device)
        mean, log_variance = self.conditional(x)
        # (p - m)^2 - (y - m)^2 for the partner p, as a product.
        partner = y[index]
        difference = (partner - y) * (partner + y - 2 * mean)
        bound: Tensor = (difference * (-log_variance).exp()).sum(dim=-1).mean() / 2
        return bound


class CLUBMean(Estimator):
    """CLUB with a q(y | x) of variance 1: the network gives the mean alone.

    Args:
        x_size, y_size: features. hidden_size: units of the hidden layer; None: a linear map.
    """

    upper_bound: ClassVar[bool] = True

    def __init__(self, x_size: int, y_size: int, hidden_size: int | None = None) -> None:
        super().__init__()
        self.mean = network(x_size, hidden_size, y_size)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy)."""
        check_pairs(x, y)
        return contrast(y, self.mean(x), 1.0)

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean of the squared distance between y and its prediction."""
        check_pairs(x, y)
        loss: Tensor = (y - self.mean(x)).square().sum(dim=-1).mean()
        return loss


class CLUBForCategorical(Estimator):
    """CLUB between a vector x and a class y: q(y | x) is a softmax.

    Args:
        x_size: features. num_classes: of y. hidden_size: units of the hidden layer; None: a linear
            map.
    """

    upper_bound: ClassVar[bool] = True

    def __init__(self, x_size: int, num_classes: int, hidden_size: int | None = None) -> None:
        super().__init__()
        self.classifier = network(x_size, hidden_size, num_classes)
        self.num_classes = num_classes

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from x (N, x_size) and classes y (N,) int64."""
        # The normaliser of the softmax cancels, and so does a shift of every class.
        logits = self._logits(x, y)
        is_class = F.one_hot(y, self.num_classes).to(logits.dtype)
        bound: Tensor = (logits * (is_class - is_class.mean(dim=0))).sum(dim=-1).mean()
        return bound

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(self._logits(x, y), y)

    def _logits(self, x: Tensor, y: Tensor) -> Tensor:
        if x.dim() != 2 or y.dim() != 1 or len(x) != len(y):
            raise DataError(
                f"x and y must be (N, D) and (N,), got {tuple(x.shape)} and {tuple(y.shape)}"
            )
        logits: Tensor = self.classifier(x)
        return logits
