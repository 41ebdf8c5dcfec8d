"""Lower bounds that compare the scores of pairs with those of all other combinations."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.nn.mutual_information.critic import ConcatCritic, SeparableCritic
from fusionkit.nn.mutual_information.estimator import Estimator, check_pairs


class _Contrastive(Estimator):
    upper_bound: ClassVar[bool] = False
    softplus: ClassVar[bool] = False

    def __init__(
        self, x_size: int, y_size: int, hidden_size: int, *, critic: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.critic: Any = critic or ConcatCritic(
            x_size, y_size, hidden_size, softplus=self.softplus
        )

    def learning_loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Minus the bound: the critic makes it as large as it can."""
        return -self.forward(x, y)


class InfoNCE(_Contrastive):
    """mean_i T(x_i, y_i) - mean_i [logsumexp_j T(x_j, y_i) - log N] (van den Oord et al. 2018).

    Never above log N, so it cannot show more than that. The default critic ends in a Softplus, as
    in the released code of CLUB.

    Args:
        x_size, y_size: features. hidden_size: of the default `ConcatCritic`.
        critic: another one, with ``forward`` and ``all_pairs`` as there.
    """

    softplus: ClassVar[bool] = True

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy); 0 for one pair."""
        count = check_pairs(x, y)
        # A subclass may score in another way.
        if type(self.critic) is SeparableCritic:
            return math.log(count) - self.critic.contrast(x, y).mean()
        others = self.critic.all_pairs(x, y).logsumexp(dim=1) - math.log(count)
        bound: Tensor = self.critic(x, y).mean() - others.mean()
        return bound


class NWJ(_Contrastive):
    """mean_i T(x_i, y_i) - mean_{i != j} exp(T(x_j, y_i) - 1) (Nguyen, Wainwright, Jordan 2010).

    Unbiased, with a variance that grows like exp(I). The best T is 1 + log p(x,y) / (p(x) p(y)).

    Args:
        x_size, y_size, hidden_size, critic: as in `InfoNCE`.
        released: let the second mean take in the pairs i = j too, as the released code of CLUB
            does, which lowers the bound.
    """

    def __init__(
        self,
        x_size: int,
        y_size: int,
        hidden_size: int,
        *,
        critic: nn.Module | None = None,
        released: bool = False,
    ) -> None:
        super().__init__(x_size, y_size, hidden_size, critic=critic)
        self.released = released

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N >= 2 pairs (``released``: 1)."""
        count = check_pairs(x, y, least=1 if self.released else 2)
        scores = self.critic.all_pairs(x, y) - 1
        if not self.released:
            scores = _without_diagonal(scores)
        terms = count * (count if self.released else count - 1)
        others = (scores.logsumexp((0, 1)) - math.log(terms)).exp()
        bound: Tensor = self.critic(x, y).mean() - others
        return bound


class JSD(_Contrastive):
    """2 log 2 - mean_i sp(-T(x_i, y_i)) - mean_{i != j} sp(T(x_j, y_i)), sp the softplus.

    A lower bound of twice the Jensen-Shannon divergence between p(x,y) and p(x) p(y) (Nowozin et
    al. 2016; Hjelm et al. 2019, "Learning deep representations by mutual information estimation
    and maximization", there without the constant). That divergence lies between 0 and
    2 log 2 nats and never above I(x; y): with r the density ratio, its integrand has the slope
    log(2r / (1 + r)) in r, that of I has log r, and both touch 0 at r = 1. Of small variance, but
    flat once x and y depend strongly. The best T is log p(x,y) / (p(x) p(y)).

    Args:
        x_size, y_size, hidden_size, critic: as in `InfoNCE`.
    """

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """The bound in nats, a scalar, from N >= 2 pairs: x (N, Dx) and y (N, Dy)."""
        count = check_pairs(x, y, least=2)
        others = F.softplus(_without_diagonal(self.critic.all_pairs(x, y))).sum()
        paired = F.softplus(-self.critic(x, y)).mean()
        bound: Tensor = 2 * math.log(2) - paired - others / (count * (count - 1))
        return bound


def _without_diagonal(scores: Tensor) -> Tensor:
    diagonal = torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    return scores.masked_fill(diagonal, -torch.inf)
