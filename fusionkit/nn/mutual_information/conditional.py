"""Variational conditionals q(y | x) of the bounds that need a density."""

from __future__ import annotations

from torch import Tensor, nn


class GaussianConditional(nn.Module):
    """q(y | x) = N(mean(x), diag exp log_variance(x)), both of the form Linear, ReLU, Linear.

    Args:
        x_size, y_size: features. hidden_size: units of both hidden layers (the released code of
            CLUB has half of what it is given).
        bounded: the log-variance ends in a Tanh, so that variances lie between 1/e and e.
    """

    def __init__(self, x_size: int, y_size: int, hidden_size: int, *, bounded: bool = True) -> None:
        super().__init__()
        self.mean = network(x_size, hidden_size, y_size)
        self.log_variance = network(x_size, hidden_size, y_size)
        if bounded:
            self.log_variance.append(nn.Tanh())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, x_size) to the mean and the log-variance, each (N, y_size)."""
        return self.mean(x), self.log_variance(x)


def log_density(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Log-density (N,) of y under N(mean, diag exp log_variance), without -D/2 log(2 pi)."""
    squares = (y - mean).square() * (-log_variance).exp()
    return -0.5 * (squares + log_variance).sum(dim=-1)


def fitting_loss(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean of sum (y - mean)^2 / variance + log variance: twice what `log_density` is, negated."""
    return -2 * log_density(y, mean, log_variance).mean()


def contrast(y: Tensor, mean: Tensor, precision: Tensor | float) -> Tensor:
    """Mean over i of log q(y_i | x_i) - mean_j log q(y_j | x_i), a scalar; log-variances cancel.

    Written as a covariance of y with the mean and the precision, without large terms to cancel:
    (mean_j (y_j - m)^2 - (y - m)^2) / 2 = (y - c) (m - c) - ((y - c)^2 - v) / 2, with c and v the
    mean and the variance of y.
    """
    centre = y.mean(dim=0)
    centred = y - centre
    excess = centred.square() - centred.square().mean(dim=0)
    terms = centred * (mean - centre) - 0.5 * excess
    return (terms * precision).sum(dim=-1).mean()


def network(inputs: int, hidden_size: int | None, outputs: int) -> nn.Sequential:
    """Linear, ReLU, Linear; one linear layer where ``hidden_size`` is None."""
    if hidden_size is None:
        return nn.Sequential(nn.Linear(inputs, outputs))
    return nn.Sequential(nn.Linear(inputs, hidden_size), nn.ReLU(), nn.Linear(hidden_size, outputs))
