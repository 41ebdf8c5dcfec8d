"""The bounds on correlated Gaussians, whose mutual information is -(d/2) log(1 - rho^2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from fusionkit.nn.mutual_information import (
    CLUB,
    JSD,
    MINE,
    NWJ,
    BarberAgakov,
    CLUBMean,
    CLUBSample,
    Estimator,
    InfoNCE,
    L1Out,
    SeparableCritic,
    VarUB,
)

SIZE = 20
RHOS = [0.2, 0.5, 0.8]
# Pairs that an estimate takes in all: 8 batches of 2048.
BATCHES, BATCH = 8, 2048


class Conditional(nn.Module):
    """p(y | x) itself."""

    def __init__(self, rho: float) -> None:
        super().__init__()
        self.rho = rho

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.rho * x, torch.full_like(x, math.log(1 - self.rho**2))


class Critic(nn.Module):
    """log p(x, y) / (p(x) p(y)), plus a constant: the best critic."""

    def __init__(self, rho: float, constant: float = 0.0) -> None:
        super().__init__()
        self.rho, self.constant = rho, constant + information(rho)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self._scores((x * y).sum(-1), x.square().sum(-1) + y.square().sum(-1))

    def all_pairs(self, x: Tensor, y: Tensor) -> Tensor:
        return self._scores(y @ x.T, x.square().sum(-1) + y.square().sum(-1)[:, None])

    def _scores(self, products: Tensor, squares: Tensor) -> Tensor:
        rho = self.rho
        return self.constant + (2 * rho * products - rho**2 * squares) / (2 * (1 - rho**2))


def information(rho: float) -> float:
    return -SIZE / 2 * math.log(1 - rho**2)


def pairs(rho: float, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(count, SIZE, generator=generator)
    noise = torch.randn(count, SIZE, generator=generator)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def batches(rho: float) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    for _ in range(BATCHES):
        yield pairs(rho, BATCH, generator)


def estimate(bound: Callable[[Tensor, Tensor], Tensor], rho: float) -> tuple[float, float]:
    """Mean of the bound over fresh batches, and four standard errors of it."""
    torch.manual_seed(0)
    with torch.no_grad():
        values = torch.stack([bound(x, y) for x, y in batches(rho)])
    return values.mean().item(), 4 * values.std().item() / math.sqrt(BATCHES)


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize(
    "make",
    [
        lambda rho: VarUB(SIZE, SIZE, 1, conditional=Conditional(rho)),
        lambda rho: VarUB(SIZE, SIZE, 1, conditional=Conditional(rho), sampled=True),
        lambda rho: BarberAgakov(SIZE, SIZE, 1, conditional=Conditional(rho)),
        lambda rho: BarberAgakov(SIZE, SIZE, 1, conditional=Conditional(rho), entropy="full"),
        lambda rho: NWJ(SIZE, SIZE, 1, critic=Critic(rho, 1.0)),
    ],
    ids=["VarUB", "VarUB-sampled", "BarberAgakov", "BarberAgakov-full", "NWJ"],
)
def test_tight_with_the_best_network(make: Callable[[float], Estimator], rho: float) -> None:
    value, error = estimate(make(rho), rho)
    # The full covariance of 2048 pairs takes about d^2 / 4N off the entropy of y.
    assert value == pytest.approx(information(rho), rel=0.1, abs=0.06)
    assert abs(value - information(rho)) < error + 0.06


@pytest.mark.parametrize("rho", RHOS)
def test_bounds_limited_by_the_number_of_pairs(rho: float) -> None:
    """InfoNCE, MINE from below and L1Out from above are tight while exp(I) is well below N."""
    truth = information(rho)
    below, error = estimate(InfoNCE(SIZE, SIZE, 1, critic=Critic(rho)), rho)
    assert below < truth + error and below <= math.log(BATCH)
    above, error = estimate(L1Out(SIZE, SIZE, 1, conditional=Conditional(rho)), rho)
    assert above > truth - error
    mine, error = estimate(MINE(SIZE, SIZE, 1, critic=Critic(rho)), rho)
    assert mine < truth + error
    if math.exp(truth) < BATCH / 10:
        assert below == pytest.approx(truth, rel=0.1)
        assert above == pytest.approx(truth, rel=0.1)
        assert mine == pytest.approx(truth, rel=0.15)
    else:
        assert below == pytest.approx(math.log(BATCH), rel=0.1)
        assert above < 1.5 * truth


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("kind", [CLUB, CLUBSample])
def test_club_has_its_own_closed_form(kind: type[CLUB], rho: float) -> None:
    """With q = p(y | x) its expectation is d rho^2 / (1 - rho^2), above twice the information."""
    expected = SIZE * rho**2 / (1 - rho**2)
    value, _ = estimate(kind(SIZE, SIZE, 1, conditional=Conditional(rho)), rho)
    assert value == pytest.approx(expected, rel=0.1)
    assert value > 2 * information(rho)


@pytest.mark.parametrize("rho", RHOS)
def test_jsd_stays_below_the_information(rho: float) -> None:
    """Its value with the best critic is twice the divergence, from samples of the definition."""
    value, _ = estimate(JSD(SIZE, SIZE, 1, critic=Critic(rho)), rho)
    critic = Critic(rho)

    def divergence(x: Tensor, y: Tensor) -> Tensor:
        joint, product = critic(x, y), critic(x, y.roll(1, dims=0))
        first, second = (2 * joint.sigmoid()).log(), (2 * (-product).sigmoid()).log()
        total: Tensor = first.mean() + second.mean()
        return total

    expected, error = estimate(divergence, rho)
    assert abs(value - expected) < error + 1e-3
    assert 0 < value < min(information(rho), 2 * math.log(2))


def test_released_nwj_is_lower() -> None:
    for rho in RHOS[1:]:
        released = NWJ(SIZE, SIZE, 1, critic=Critic(rho, 1.0), released=True)
        ours = NWJ(SIZE, SIZE, 1, critic=Critic(rho, 1.0))
        assert estimate(released, rho)[0] < estimate(ours, rho)[0]


FITTED: dict[str, Callable[[], Estimator]] = {
    "CLUB": lambda: CLUB(SIZE, SIZE, 32),
    "CLUBSample": lambda: CLUBSample(SIZE, SIZE, 32),
    "CLUBMean": lambda: CLUBMean(SIZE, SIZE, 32),
    "L1Out": lambda: L1Out(SIZE, SIZE, 32),
    "VarUB": lambda: VarUB(SIZE, SIZE, 32, sampled=True),
    "BarberAgakov": lambda: BarberAgakov(SIZE, SIZE, 32),
    "MINE": lambda: MINE(SIZE, SIZE, 64),
    "InfoNCE": lambda: InfoNCE(SIZE, SIZE, 64, critic=SeparableCritic(SIZE, SIZE, 64)),
    "NWJ": lambda: NWJ(SIZE, SIZE, 64, critic=SeparableCritic(SIZE, SIZE, 64)),
    "JSD": lambda: JSD(SIZE, SIZE, 64, critic=SeparableCritic(SIZE, SIZE, 64)),
}


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("name", FITTED)
def test_fitted_bounds_are_on_their_side(name: str, rho: float) -> None:
    torch.manual_seed(0)
    estimator, generator = FITTED[name](), torch.Generator().manual_seed(1)
    before, _ = estimate(estimator, rho)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        estimator.learning_loss(*pairs(rho, 128, generator)).backward()
        optimizer.step()
    value, error = estimate(estimator, rho)
    truth = information(rho)
    if not estimator.upper_bound:
        assert max(before, 0.1 * truth) < value < truth + error
        return
    # L1Out and VarUB fall below by at most the divergence of q from p(y | x).
    short = 0.0
    if isinstance(estimator, (L1Out, VarUB)):
        short = _divergence(estimator.conditional, rho)
    assert value > truth - short - error
    assert short < 0.4 + 0.1 * truth


def test_default_critic_fits() -> None:
    torch.manual_seed(0)
    rho, generator = 0.5, torch.Generator().manual_seed(1)
    estimator = InfoNCE(SIZE, SIZE, 32)
    optimizer = torch.optim.Adam(estimator.parameters(), lr=5e-3)
    for _ in range(150):
        optimizer.zero_grad()
        estimator.learning_loss(*pairs(rho, 128, generator)).backward()
        optimizer.step()
    with torch.no_grad():
        value = torch.stack([estimator(*pairs(rho, 512, generator)) for _ in range(4)]).mean()
    assert 0.5 * information(rho) < value < information(rho)


def _divergence(conditional: nn.Module, rho: float) -> float:
    """Mean over x of the divergence of q(y | x) from p(y | x), in closed form."""

    def divergence(x: Tensor, y: Tensor) -> Tensor:
        mean, log_variance = conditional(x)
        wanted, true = Conditional(rho)(x)
        ratio = (true.exp() + (wanted - mean).square()) / log_variance.exp()
        mean_divergence: Tensor = 0.5 * (ratio - 1 + log_variance - true).sum(dim=-1).mean()
        return mean_divergence

    return estimate(divergence, rho)[0]
