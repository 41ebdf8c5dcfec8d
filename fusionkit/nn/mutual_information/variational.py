"""The variational upper bound behind the information bottleneck."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from fusionkit.nn.mutual_information.conditional import (
    GaussianConditional,
    fitting_loss,
    log_density,
)
from fusionkit.nn.mutual_information.estimator import Estimator, check_pairs


class VarUB(Estimator):
    """Mean divergence of q(y | x) from r(y) = N(0, 1) (Alemi et al. 2017).

    The sum over channels of (mean^2 + variance - 1 - log variance) / 2. Where q is p(y | x), it is
    above I(x; y) by the divergence of p(y) from r. With ``sampled``, any other q takes it below
    I(x; y) by at most the divergence of q from p(y | x); the closed form has no such limit.

    Args:
        x_size, y_size: features. hidden_size: of the default `GaussianConditional`.
        conditional: another q, a module x -> (mean, log-variance), each (N, y_size).
        sampled: mean_i log q(y_i | x_i) - log r(y_i) instead of the closed form, in which y plays
            no part: only so does y get a gradient.
        released: the mean over channels instead of the sum, as the released code of CLUB has it,
            which is no bound of I(x; y).
    """

    upper_bound: ClassVar[bool] = True

    def __init__(
        self,
        x_size: int,
        y_size: int,
        hidden_size: int,
        *,
        conditional: nn.Module | None = None,
        sampled: bool = False,
        released: bool = False,
    ) -> None:
        super().__init__()
        self.conditional: Any = conditional or GaussianConditional(x_size, y_size, hidden_size)
        self.sampled, self.released = sampled, released

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy)."""
        check_pairs(x, y)
        mean, log_variance = self.conditional(x)
        if self.sampled:
            bound = (log_density(y, mean, log_variance) + 0.5 * y.square().sum(dim=-1)).mean()
        else:
            divergence = mean.square() + log_variance.exp() - 1 - log_variance
            bound = 0.5 * divergence.sum(dim=-1).mean()
        return bound / y.shape[1] if self.released else bound

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """As `CLUB.learning_loss`."""
        check_pairs(x, y)
        return fitting_loss(y, *self.conditional(x))
