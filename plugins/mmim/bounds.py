"""The two kinds of lower bounds that MMIM maximises (Han et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit.nn.mutual_information.conditional import GaussianConditional, log_density
from fusionkit.ops import info_nce
from fusionkit_plugins.mmim.config import Activation, MMIMConfig

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh}


class BarberAgakovTerms(nn.Module):
    """I(x; y) >= E log q(y | x) + H(y), q Gaussian: both terms, up to constants.

    H(y) is that of a small projection of y, which stays as it was drawn: trained, it would raise
    the entropy of its own output instead of y's.

    Args:
        x_size, y_size: features of the vector that predicts and of the one that is predicted.
        config: activation and form of q.
    """

    def __init__(self, x_size: int, y_size: int, config: MMIMConfig) -> None:
        super().__init__()
        self.log_variance_term = config.log_variance_term
        self.conditional = GaussianConditional(
            x_size, y_size, y_size, bounded=config.bounded_log_variance
        )
        for network in (self.conditional.mean, self.conditional.log_variance):
            network[1] = _ACTIVATIONS[config.bound_activation]()
        self.projection = nn.Linear(y_size, max(1, y_size // 4))

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean over the batch of log q(y | x), a scalar, from (B, x_size) and (B, y_size).

        Without ``log_variance_term`` it is no likelihood: a large variance then makes any error
        small.
        """
        mean, log_variance = self.conditional(x)
        if self.log_variance_term:
            return log_density(y, mean, log_variance).mean()
        squares: Tensor = (y - mean).square() * (-log_variance).exp()
        return -0.5 * squares.sum(dim=-1).mean()

    def project(self, y: Tensor) -> Tensor:
        """(B, y_size) to (B, max(1, y_size // 4)), what the entropy is taken of."""
        projected: Tensor = self.projection(y)
        return projected.tanh()


class ContrastivePrediction(nn.Module):
    """How well a modality is picked out of the batch by what the fused vector predicts of it.

    Args:
        x_size: features of the modality. z_size: of the fused vector.
        layers: of the predictor. activation: between them.
        one_activation: after the first layer alone, as in the released code.
    """

    def __init__(
        self,
        x_size: int,
        z_size: int,
        *,
        layers: int = 1,
        activation: Activation = "tanh",
        one_activation: bool = False,
    ) -> None:
        super().__init__()
        self.predictor = nn.Sequential(nn.Linear(z_size, x_size))
        for index in range(1, layers):
            if index == 1 or not one_activation:
                self.predictor.append(_ACTIVATIONS[activation]())
            self.predictor.append(nn.Linear(x_size, x_size))

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """InfoNCE loss, a scalar, from (B, x_size) and (B, z_size).

        Scores are cosines, without a temperature; each modality vector is compared with the
        predictions of the whole batch. log B less than the usual loss, which is >= 0.
        """
        return info_nce(_unit(x), _unit(self.predictor(z))).mean()


def _unit(x: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros (a missing modality) stays."""
    norm = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / torch.where(norm > 0, norm, 1)
