"""The Barber-Agakov lower bound."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fusionkit.nn.mutual_information.conditional import GaussianConditional, log_density
from fusionkit.nn.mutual_information.estimator import Estimator, check_pairs

Entropy = Literal["diagonal", "full", "none"]

# Added to variances of y, so that a constant channel or few pairs give a finite entropy.
_FLOOR = 1e-6


class BarberAgakov(Estimator):
    """mean_i log q(y_i | x_i) + H(y) (Barber and Agakov 2003).

    H(y) is that of a Gaussian with the covariance of the pairs. No distribution of that covariance
    has more, so the bound is one where y is Gaussian and may lie above I(x; y) elsewhere. Without
    H(y) the value grows without limit when y shrinks to a point, so it has to stay in wherever y is
    trained.

    Args:
        x_size, y_size: features. hidden_size: of the default `GaussianConditional`.
        conditional: another q, a module x -> (mean, log-variance), each (N, y_size).
        entropy: ``diagonal``: of the variances alone; ``full``: of the covariance, for N well above
            y_size; ``none``: left out, for a y that is not trained.
    """

    upper_bound: ClassVar[bool] = False

    def __init__(
        self,
        x_size: int,
        y_size: int,
        hidden_size: int,
        *,
        conditional: nn.Module | None = None,
        entropy: Entropy = "diagonal",
    ) -> None:
        super().__init__()
        self.conditional: Any = conditional or GaussianConditional(x_size, y_size, hidden_size)
        self.entropy: Entropy = entropy

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy)."""
        bound = -self.learning_loss(x, y)
        return bound if self.entropy == "none" else bound + gaussian_entropy(y, self.entropy)

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean of -log q(y | x), in nats."""
        check_pairs(x, y)
        constant = 0.5 * y.shape[1] * math.log(2 * math.pi)
        return constant - log_density(y, *self.conditional(x)).mean()


def gaussian_entropy(y: Tensor, covariance: Literal["diagonal", "full"]) -> Tensor:
    """Entropy in nats, a scalar, of a Gaussian with the covariance of y (N, D)."""
    centred = y - y.mean(dim=0)
    if covariance == "diagonal":
        log_determinant = (centred.square().mean(dim=0) + _FLOOR).log().sum()
    else:
        floor = _FLOOR * torch.eye(y.shape[1], dtype=y.dtype, device=y.device)
        log_determinant = torch.logdet(centred.T @ centred / len(y) + floor)
    return 0.5 * (log_determinant + y.shape[1] * math.log(2 * math.pi * math.e))
