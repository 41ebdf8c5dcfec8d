"""What the golden files do not hold: definitions, memory, draws, gradients and errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fusionkit.errors import DataError
from fusionkit.nn.mutual_information import (
    CLUB,
    JSD,
    MINE,
    NWJ,
    BarberAgakov,
    CLUBForCategorical,
    CLUBMean,
    CLUBSample,
    ConcatCritic,
    Estimator,
    GaussianConditional,
    InfoNCE,
    L1Out,
    SeparableCritic,
    VarUB,
)

ALL: dict[str, Callable[[int, int], Estimator]] = {
    "InfoNCE": lambda a, b: InfoNCE(a, b, 8),
    "NWJ": lambda a, b: NWJ(a, b, 8),
    "NWJ-released": lambda a, b: NWJ(a, b, 8, released=True),
    "MINE": lambda a, b: MINE(a, b, 8),
    "JSD": lambda a, b: JSD(a, b, 8),
    "BarberAgakov": lambda a, b: BarberAgakov(a, b, 8),
    "CLUB": lambda a, b: CLUB(a, b, 8),
    "CLUBSample": lambda a, b: CLUBSample(a, b, 8),
    "CLUBMean": lambda a, b: CLUBMean(a, b, 8),
    "CLUBMean-linear": lambda a, b: CLUBMean(a, b),
    "L1Out": lambda a, b: L1Out(a, b, 8),
    "L1Out-released": lambda a, b: L1Out(a, b, 8, released=True),
    "VarUB-sampled": lambda a, b: VarUB(a, b, 8, sampled=True),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


class Largest(TorchDispatchMode):
    """Elements of the largest tensor that anything computes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            # A view has no memory of its own.
            if isinstance(value, Tensor) and "expand" not in str(func):
                self.elements = max(self.elements, value.numel())
        return result


class Fixed(nn.Module):
    """A conditional with given values."""

    def __init__(self, mean: Tensor, log_variance: Tensor) -> None:
        super().__init__()
        self.values = mean, log_variance

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.values


def naive_log_densities(y: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Entry [i, j]: log q(y_i | x_j) without the constant, from (N, N, D) in float64."""
    y, mean, s = y.double(), mean.double(), log_variance.double()
    squares = (y[:, None] - mean[None]).square() / s.exp()
    return -0.5 * (squares + s).sum(dim=-1)


def naive(kind: type[Estimator], logs: Tensor) -> float:
    """The bounds from the log-densities, as they are written."""
    count = len(logs)
    positive = logs.diagonal()
    if kind is CLUB:
        return (positive - logs.mean(dim=0)).mean().item()
    others = [
        torch.cat([row[:i], row[i + 1 :]]).logsumexp(0) - math.log(count - 1)
        for i, row in enumerate(logs)
    ]
    return (positive - torch.stack(others)).mean().item()


@pytest.mark.parametrize("kind", [CLUB, L1Out])
@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (100.0, 0.1), (-3.0, 10.0)])
def test_float32_against_the_definition(
    kind: type[CLUB] | type[L1Out], offset: float, scale: float
) -> None:
    y = offset + scale * torch.randn(70, 9)
    mean = y + 0.3 * scale * torch.randn(70, 9)
    log_variance = torch.randn(70, 9) + 2 * math.log(scale)
    logs = naive_log_densities(y, mean, log_variance)
    estimator = kind(1, 9, 1, conditional=Fixed(mean, log_variance))
    got = estimator(torch.zeros(70, 1), y).item()
    assert got == pytest.approx(naive(kind, logs), rel=2e-5)
    if kind is L1Out:
        released = L1Out(1, 9, 1, conditional=Fixed(mean, log_variance), released=True)
        different = released(torch.zeros(70, 1), y).item()
        expected = (logs.diagonal().mean() - logs.mean()).item()
        assert different == pytest.approx(expected, rel=2e-5)
        assert abs(different - got) > 0.1 * abs(got)


@pytest.mark.parametrize("name", ["CLUB", "CLUBMean", "L1Out", "InfoNCE", "NWJ", "JSD"])
def test_memory_does_not_grow_with_pairs_times_features(name: str) -> None:
    count, size, limit = 256, 48, 2**15
    x, y = torch.randn(count, size, requires_grad=True), torch.randn(count, size)
    estimator = ALL[name](size, size)
    critic = getattr(estimator, "critic", None)
    if critic is not None:
        critic.most_elements = limit
    with Largest() as largest:
        estimator(x, y).backward()
    assert 0 < largest.elements <= count * count < count * count * 8
    if name.startswith("CLUB"):
        assert largest.elements <= count * size


@pytest.mark.parametrize("kind", [InfoNCE, NWJ, JSD])
def test_rows_at_a_time_change_nothing(kind: Callable[..., Estimator]) -> None:
    x, y = torch.randn(13, 3).double(), torch.randn(13, 4).double()
    results = []
    for most in (2**24, 200):
        critic = ConcatCritic(3, 4, 5, most_elements=most)
        torch.manual_seed(1)
        for p in critic.parameters():
            nn.init.normal_(p)
        estimator = kind(3, 4, 5, critic=critic).double()
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        bound = estimator(a, b)
        results.append([bound, *torch.autograd.grad(bound, [a, b, *estimator.parameters()])])
        frozen = estimator.frozen(a, b)
        results[-1] += torch.autograd.grad(frozen, [a, b])
    for whole, split in zip(*results):
        torch.testing.assert_close(split, whole)


@pytest.mark.parametrize("make", [ConcatCritic, SeparableCritic])
def test_all_pairs_scores_each_pair(make: Callable[..., Any]) -> None:
    critic = make(3, 4, 5)
    x, y = torch.randn(6, 3), torch.randn(6, 4)
    scores = critic.all_pairs(x, y)
    for i in range(6):
        torch.testing.assert_close(scores[i], critic(x, y[i].expand(6, -1)))


def test_separable_scores_give_the_bound_of_all_pairs() -> None:
    """By `info_nce`, and for a critic of a class of its own by the scores of all pairs."""

    class Doubled(SeparableCritic):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return 2 * super().forward(x, y)

        def all_pairs(self, x: Tensor, y: Tensor) -> Tensor:
            return 2 * super().all_pairs(x, y)

    x, y = torch.randn(7, 3).double(), torch.randn(7, 4).double()
    for make, factor in ((SeparableCritic, 1.0), (Doubled, 2.0)):
        estimator = InfoNCE(3, 4, 5, critic=make(3, 4, 5)).double()
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        leaves = [a, b, *estimator.parameters()]
        bound = estimator(a, b)
        scores = factor * estimator.critic.of_y(b) @ estimator.critic.of_x(a).T * 5**-0.5
        others = scores.logsumexp(dim=1) - math.log(7)
        expected = scores.diagonal().mean() - others.mean()
        torch.testing.assert_close(bound, expected)
        torch.testing.assert_close(
            torch.autograd.grad(bound, leaves), torch.autograd.grad(expected, leaves)
        )


@pytest.mark.parametrize("name", ALL)
def test_frozen_gives_gradients_to_the_samples_only(name: str) -> None:
    estimator = ALL[name](3, 4)
    x = torch.randn(8, 3, requires_grad=True)
    y = torch.randn(8, 4, requires_grad=True)
    torch.manual_seed(5)
    frozen = estimator.frozen(x, y)
    torch.manual_seed(5)
    assert torch.equal(frozen, estimator(x, y))
    frozen.backward()
    assert all(p.grad is None for p in estimator.parameters())
    assert y.grad is not None and y.grad.any()
    if not name.endswith("linear"):
        assert x.grad is not None and x.grad.any()
    estimator.learning_loss(x.detach(), y.detach()).backward()
    assert all(p.grad is not None for p in estimator.parameters())


@pytest.mark.parametrize("kind", [MINE, CLUBSample])
def test_draws_can_be_given(kind: type[MINE] | type[CLUBSample]) -> None:
    estimator = kind(3, 4, 8)
    x, y = torch.randn(9, 3), torch.randn(9, 4)

    def drawn(seed: int) -> Tensor:
        bound: Tensor = estimator(x, y, generator=torch.Generator().manual_seed(seed))
        return bound

    assert torch.equal(drawn(1), drawn(1)) and not torch.equal(drawn(1), drawn(2))
    generator = torch.Generator().manual_seed(1)
    index = (
        torch.randperm(9, generator=generator)
        if kind is CLUBSample
        else torch.randint(9, (9,), generator=generator)
    )
    assert torch.equal(estimator(x, y, index=index), drawn(1))
    itself = estimator(x, y, index=torch.arange(9))
    assert kind is MINE or itself == 0


def test_categorical_is_the_definition() -> None:
    estimator = CLUBForCategorical(5, 3, 8)
    x, y = torch.randn(10, 5), torch.randint(3, (10,))
    logs = estimator.classifier(x).log_softmax(-1)
    table = logs[:, y]
    expected = table.diagonal().mean() - table.mean()
    torch.testing.assert_close(estimator(x, y), expected)
    with pytest.raises(DataError, match=r"\(N, D\) and \(N,\)"):
        estimator(x, y[:, None])


def test_var_ub_closed_form_is_the_mean_of_samples() -> None:
    conditional = GaussianConditional(3, 4, 8)
    x = torch.randn(5, 3).repeat(20_000, 1)
    mean, log_variance = conditional(x)
    y = mean + (0.5 * log_variance).exp() * torch.randn(len(x), 4)
    closed = VarUB(3, 4, 8, conditional=conditional)(x, y)
    sampled = VarUB(3, 4, 8, conditional=conditional, sampled=True)(x, y)
    torch.testing.assert_close(sampled, closed, rtol=0, atol=0.02)
    released = VarUB(3, 4, 8, conditional=conditional, released=True)(x, y)
    torch.testing.assert_close(released * 4, closed)


def test_barber_agakov_without_entropy_is_minus_its_loss() -> None:
    x, y = torch.randn(9, 3), torch.randn(9, 4)
    estimator = BarberAgakov(3, 4, 8, entropy="none")
    assert torch.equal(estimator(x, y), -estimator.learning_loss(x, y))
    mean, log_variance = estimator.conditional(x)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    torch.testing.assert_close(estimator(x, y), normal.log_prob(y).sum(-1).mean())


def test_unbounded_variances() -> None:
    x = 100 * torch.randn(9, 3)
    assert GaussianConditional(3, 4, 8)(x)[1].abs().max() <= 1
    assert GaussianConditional(3, 4, 8, bounded=False)(x)[1].abs().max() > 1


@pytest.mark.parametrize("name", ALL)
def test_wrong_inputs_are_named(name: str) -> None:
    estimator = ALL[name](3, 4)
    with pytest.raises(DataError, match=r"\(N, Dx\)"):
        estimator(torch.zeros(2, 5, 3), torch.zeros(2, 4))
    with pytest.raises(DataError, match=r"\(N, Dx\)"):
        estimator.learning_loss(torch.zeros(3, 3), torch.zeros(2, 4))
    one = torch.randn(1, 3), torch.randn(1, 4)
    if name in ("NWJ", "JSD", "L1Out", "L1Out-released"):
        with pytest.raises(DataError, match="1 pairs are too few"):
            estimator(*one)
    else:
        assert estimator(*one).isfinite()


@pytest.mark.parametrize("name", ALL)
def test_compiles_into_one_graph(name: str) -> None:
    estimator = ALL[name](3, 4)
    x, y = torch.randn(8, 3), torch.randn(8, 4)
    torch.compiler.reset()
    compiled = torch.compile(estimator, backend="eager", fullgraph=True)
    torch.manual_seed(2)
    expected = estimator(x, y)
    torch.manual_seed(2)
    torch.testing.assert_close(compiled(x, y), expected)
