"""The information between modalities, and between a modality's input and its feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from fusionkit.nn.mutual_information import (
    CLUB,
    JSD,
    MINE,
    NWJ,
    BarberAgakov,
    CLUBSample,
    Estimator,
    InfoNCE,
    L1Out,
    VarUB,
)
from fusionkit_plugins.mmmie.config import LowerBound, UpperBound

Make = Callable[[int, int, int], Estimator]

_LOWER: dict[LowerBound, Make] = {
    "infonce": InfoNCE,
    "nwj": NWJ,
    "mine": MINE,
    "jsd": JSD,
    "barber_agakov": BarberAgakov,
}
_UPPER: dict[UpperBound, Make] = {
    "club": CLUB,
    "club_sample": CLUBSample,
    "l1out": L1Out,
    # In the closed form the features would get no gradient.
    "vub": lambda x_size, y_size, hidden: VarUB(x_size, y_size, hidden, sampled=True),
}


class PairInformation(nn.Module):
    """A lower bound of the information between the features of every two modalities.

    Args:
        sizes: modality -> features. bound: which. hidden_size: of the critics or conditionals.
    """

    def __init__(self, sizes: Mapping[str, int], bound: LowerBound, hidden_size: int) -> None:
        super().__init__()
        self.pairs = tuple(combinations(sizes, 2))
        self.estimators = nn.ModuleDict(
            {f"{a}_with_{b}": _LOWER[bound](sizes[a], sizes[b], hidden_size) for a, b in self.pairs}
        )

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Mean bound over the pairs in nats, a scalar, from modality -> (N, size)."""
        values = [
            _in_full_precision(cast(Estimator, self.estimators[f"{a}_with_{b}"]),
                               features[a], features[b])
            for a, b in self.pairs
        ]  # fmt: skip
        return torch.stack(values).mean()


class InputInformation(nn.Module):
    """An upper bound of the information between each modality's input and its feature.

    Args:
        input_sizes: modality -> size of the input vector. feature_size: of every feature.
        bound: which. hidden_size: of the variational networks.
    """

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        feature_size: int,
        bound: UpperBound,
        hidden_size: int,
    ) -> None:
        super().__init__()
        self.estimators = nn.ModuleDict(
            {
                name: _UPPER[bound](size, feature_size, hidden_size)
                for name, size in input_sizes.items()
            }
        )

    def forward(self, inputs: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Tensor:
        """Mean bound over the modalities in nats, a scalar; the networks get no gradient.

        A negative value, which no information has, says that the network does not fit yet; it
        counts as 0, so that nothing follows from it.
        """
        return self._mean(lambda estimator: estimator.frozen, inputs, features, least=0.0)

    def fitting_loss(self, inputs: Mapping[str, Tensor], features: Mapping[str, Tensor]) -> Tensor:
        """Mean loss of the variational networks over the modalities, a scalar."""
        return self._mean(lambda estimator: estimator.learning_loss, inputs, features)

    def _mean(
        self,
        function: Callable[[Estimator], Callable[[Tensor, Tensor], Tensor]],
        inputs: Mapping[str, Tensor],
        features: Mapping[str, Tensor],
        least: float | None = None,
    ) -> Tensor:
        values = [
            _in_full_precision(function(cast(Estimator, estimator)), inputs[name], features[name])
            for name, estimator in self.estimators.items()
        ]
        found = torch.stack(values)
        return (found if least is None else found.clamp(min=least)).mean()


def _in_full_precision(
    function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor
) -> Tensor:
    """Logarithms of sums and differences of densities lose too much in half precision."""
    with torch.autocast(x.device.type, enabled=False):
        return function(_at_least_float32(x), _at_least_float32(y))


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
