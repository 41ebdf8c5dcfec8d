"""MINE: the Donsker-Varadhan bound with one shuffled partner a pair."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusionkit.nn.mutual_information.critic import ConcatCritic
from fusionkit.nn.mutual_information.estimator import Estimator, check_pairs


class MINE(Estimator):
    """mean_i T(x_i, y_i) - log mean_i exp T(x_i, y_k(i)) (Belghazi et al. 2018).

    k(i) is drawn anew in every call, with replacement, as in the released code of CLUB. A lower
    bound up to the bias of the log of a mean, which is upward for few pairs.

    Args:
        x_size, y_size: features. hidden_size: of the default `ConcatCritic`.
        critic: another one, with ``forward`` as there.
    """

    upper_bound: ClassVar[bool] = False

    def __init__(
        self, x_size: int, y_size: int, hidden_size: int, *, critic: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.critic: Any = critic or ConcatCritic(x_size, y_size, hidden_size)

    def forward(
        self,
        x: Tensor,
        y: Tensor,
        *,
        index: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The bound in nats, a scalar, from N pairs: x (N, Dx) and y (N, Dy).

        ``index`` (N,) int64 is k, drawn from ``generator`` (default: torch's for the device of y)
        where it is not given.
        """
        count = check_pairs(x, y)
        if index is None:
            device = y.device if generator is None else generator.device
            index = torch.randint(count, (count,), generator=generator, device=device)
            index = index.to(y.device)
        shuffled = self.critic(x, y[index]).logsumexp(dim=0) - math.log(count)
        bound: Tensor = self.critic(x, y).mean() - shuffled
        return bound

    def learning_loss(
        self,
        x: Tensor,
        y: Tensor,
        *,
        index: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Minus the bound, with a draw of its own."""
        return -self.forward(x, y, index=index, generator=generator)
