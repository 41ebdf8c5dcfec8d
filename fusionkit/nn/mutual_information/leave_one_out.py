"""The leave-one-out upper bound."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusionkit.nn.mutual_information.conditional import (
    GaussianConditional,
    contrast,
    fitting_loss,
    log_density,
)
from fusionkit.nn.mutual_information.estimator import Estimator, check_pairs


class L1Out(Estimator):
    """mean_i [log q(y_i | x_i) - log mean_{j != i} q(y_i | x_j)] (Poole et al. 2019).

    Above I(x; y) where q is p(y | x), and near it as long as N is well above exp(I). Any other q
    takes it below I(x; y) by at most the divergence of q from p(y | x). All N^2 densities come from
    two matrix products, without (N, N, D).

    Args:
        x_size, y_size: features. hidden_size: of the default `GaussianConditional`.
        conditional: another q, a module x -> (mean, log-variance), each (N, y_size).
        released: what the released code of CLUB computes instead, because a mask broadcasts along
            the wrong axis: the value of CLUB less a constant of about exp(-20).
    """

    upper_bound: ClassVar[bool] = True

    def __init__(
        self,
        x_size: int,
        y_size: int,
        hidden_size: int,
        *,
        conditional: nn.Module | None = None,
        released: bool = False,
    ) -> None:
        super().__init__()
        self.conditional: Any = conditional or GaussianConditional(x_size, y_size, hidden_size)
        self.released = released

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N >= 2 pairs: x (N, Dx) and y (N, Dy)."""
        count = check_pairs(x, y, least=2)
        mean, log_variance = self.conditional(x)
        if self.released:
            club = contrast(y, mean, (-log_variance).exp())
            return club - math.log1p(math.exp(-20) / (count - 1))
        positive = log_density(y, mean, log_variance).mean()
        logs = _log_densities(y, mean, log_variance)
        itself = torch.eye(count, dtype=torch.bool, device=logs.device)
        others = logs.masked_fill(itself, -torch.inf).logsumexp(dim=1)
        return positive - others.mean() + math.log(count - 1)

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """As `CLUB.learning_loss`."""
        check_pairs(x, y)
        return fitting_loss(y, *self.conditional(x))


def _log_densities(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """(N, N): entry [i, j] is `log_density` of y[i] given x[j]."""
    precision = (-log_variance).exp()
    # A shift of both changes no distance, and keeps the terms of the expanded square small.
    shift = y.mean(dim=0).detach()
    y, mean = y - shift, mean - shift
    constants = (mean.square() * precision + log_variance).sum(dim=-1)
    squares = y.square() @ precision.T - 2 * (y @ (mean * precision).T)
    return -0.5 * (squares + constants)
