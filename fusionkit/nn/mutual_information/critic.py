"""Critics T(x, y): networks that score pairs, for the contrastive bounds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fusionkit.ops.info_nce import info_nce


class ConcatCritic(nn.Module):
    """Linear, ReLU, Linear on x and y side by side, and Softplus at the end if asked for.

    Scores of all N^2 pairs are computed from N projections of x and N of y, some rows at a time:
    neither the forward nor the backward pass holds more than ``most_elements`` hidden units.

    Args:
        x_size, y_size: features. hidden_size: units of the hidden layer.
        softplus: scores are positive. most_elements: hidden units in memory at a time.
    """

    def __init__(
        self,
        x_size: int,
        y_size: int,
        hidden_size: int,
        *,
        softplus: bool = False,
        most_elements: int = 2**24,
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(x_size + y_size, hidden_size)
        self.output = nn.Linear(hidden_size, 1)
        self.final = nn.Softplus() if softplus else nn.Identity()
        self.x_size, self.most_elements = x_size, most_elements

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores (N,) of the pairs (x[i], y[i]), from (N, x_size) and (N, y_size)."""
        hidden = self.hidden(torch.cat([x, y], dim=-1)).relu()
        scores: Tensor = self.final(self.output(hidden)).squeeze(-1)
        return scores

    def all_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores (Ny, Nx): entry [i, j] is that of (x[j], y[i])."""
        of_x = F.linear(x, self.hidden.weight[:, : self.x_size], self.hidden.bias)
        of_y = F.linear(y, self.hidden.weight[:, self.x_size :])
        weight, bias = self.output.weight, self.output.bias
        rows = max(1, self.most_elements // max(1, of_x.numel()))
        if rows >= len(y):
            scores = _score_rows(of_x, of_y, weight, bias)
        else:
            scores = torch.cat(
                [
                    checkpoint(
                        _score_rows, of_x, part, weight, bias,
                        use_reentrant=False, preserve_rng_state=False,
                    )
                    for part in torch.split(of_y, rows)
                ]
            )  # fmt: skip
        result: Tensor = self.final(scores)
        return result


class SeparableCritic(nn.Module):
    """f(x) . g(y) / sqrt(hidden_size), with f and g of the form Linear, ReLU, Linear.

    All pairs cost one matrix product (van den Oord et al. 2018 and Poole et al. 2019 use this
    form).

    Args:
        x_size, y_size: features. hidden_size: units of the hidden layers, and size of f(x), g(y).
    """

    def __init__(self, x_size: int, y_size: int, hidden_size: int) -> None:
        super().__init__()
        self.of_x = _network(x_size, hidden_size)
        self.of_y = _network(y_size, hidden_size)
        self.scale = hidden_size**-0.5

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores (N,) of the pairs (x[i], y[i]), from (N, x_size) and (N, y_size)."""
        scores: Tensor = (self.of_x(x) * self.of_y(y)).sum(dim=-1) * self.scale
        return scores

    def all_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        """Scores (Ny, Nx): entry [i, j] is that of (x[j], y[i])."""
        scores: Tensor = self.of_y(y) @ self.of_x(x).T * self.scale
        return scores

    def contrast(self, x: Tensor, y: Tensor) -> Tensor:
        """logsumexp_j T(x[j], y[i]) - T(x[i], y[i]), (N,); on a GPU without scores of all pairs."""
        return info_nce(self.of_y(y), self.of_x(x), scale=self.scale)


def _score_rows(of_x: Tensor, of_y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(Nx, H) and (rows, H) to (rows, Nx)."""
    return F.linear((of_x + of_y[:, None]).relu_(), weight, bias).squeeze(-1)


def _network(size: int, hidden_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size)
    )
