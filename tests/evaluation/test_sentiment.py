"""Our torchmetrics classes: hand-computed values, edges, merging, pickling."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, tensor
from torchmetrics import Metric

from fusionkit.evaluation.default import sentiment_metrics
from fusionkit.evaluation.sentiment import PolarityAccuracy, PolarityF1, RoundedAccuracy

METRICS: dict[str, Callable[[], Metric]] = {
    "acc_7": lambda: RoundedAccuracy(limit=3),
    "acc_5": lambda: RoundedAccuracy(limit=2),
    "acc_2_has_zero": lambda: PolarityAccuracy("has_zero"),
    "acc_2_non_zero": lambda: PolarityAccuracy("non_zero"),
    "f1_has_zero": lambda: PolarityF1("has_zero"),
    "f1_non_zero": lambda: PolarityF1("non_zero"),
}
every_metric = pytest.mark.parametrize("make", METRICS.values(), ids=METRICS)


def counts(metric: Metric) -> dict[str, Tensor]:
    states = {n: s.clone() for n, s in metric.metric_state.items() if isinstance(s, Tensor)}
    assert all(state.dtype == torch.int64 for state in states.values())
    return states


def scores(n: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(-9, 10, (n,), generator=generator) / 3
    return labels + torch.randn(n, generator=generator), labels


@pytest.mark.parametrize(
    ("score", "label", "limit", "same"),
    [
        (0.5, 0.0, 3, True),
        (1.5, 2.0, 3, True),
        (2.5, 2.0, 3, True),
        (2.5, 3.0, 3, False),
        (-0.5, 0.0, 3, True),
        (-1.5, -2.0, 3, True),
        (-2.5, -2.0, 3, True),
        (-0.0, 0.0, 3, True),
        (9.0, 3.0, 3, True),
        (2.4, 3.0, 3, False),
        (2.0, 3.0, 2, True),
        (-9.0, -2.0, 2, True),
        (math.nan, 0.0, 3, False),
    ],
)
def test_rounding_is_half_to_even_after_clipping(
    score: float, label: float, limit: int, same: bool
) -> None:
    assert float(RoundedAccuracy(limit)(tensor([score]), tensor([label]))) == float(same)


def test_signed_zeros_and_the_smallest_number() -> None:
    tiny = 1.4e-45
    predictions = tensor([-0.0, 0.0, tiny, -tiny])
    positive = tensor([1.0, 1.0, 1.0, 1.0])
    assert float(PolarityAccuracy("has_zero")(predictions, positive)) == 0.75
    assert float(PolarityAccuracy("non_zero")(predictions, positive)) == 0.25
    # -0.0 is left out and tiny is not
    assert float(PolarityAccuracy("non_zero")(positive, tensor([-0.0, 0.0, tiny, -tiny]))) == 0.5


def test_f1_by_hand() -> None:
    # has-zero truth 1 1 0 0 0, prediction 1 0 0 0 1: F1 of 1 is 1/2, of 0 is 2/3
    predictions, labels = tensor([1.0, -1, -1, -1, 1]), tensor([0.0, 1, -1, -1, -1])
    assert float(PolarityF1("has_zero")(predictions, labels)) == pytest.approx(
        (2 * 1 / 2 + 3 * 2 / 3) / 5
    )
    # without the first: truth 1 0 0 0, prediction 0 0 0 1: F1 of 1 is 0, of 0 is 2/3
    assert float(PolarityF1("non_zero")(predictions, labels)) == pytest.approx(3 / 4 * 2 / 3)


@pytest.mark.parametrize("metric", [PolarityAccuracy("non_zero"), PolarityF1("non_zero")])
def test_no_non_zero_label_is_nan(metric: Metric) -> None:
    metric.update(tensor([1.0, -1.0]), tensor([0.0, -0.0]))
    assert math.isnan(float(metric.compute()))


@every_metric
def test_nothing_seen_is_nan(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.update(torch.empty(0), torch.empty(0))
    assert math.isnan(float(metric.compute()))


@every_metric
def test_batches_and_merged_processes_equal_the_whole(make: Callable[[], Metric]) -> None:
    predictions, labels = scores(101, seed=0)
    whole = make()(predictions, labels)
    first, second, batched = make(), make(), make()
    first.update(predictions[:37], labels[:37])
    second.update(predictions[37:], labels[37:])
    first.merge_state(second)
    for p, y in zip(torch.split(predictions, 10), torch.split(labels, 10), strict=True):
        batched.update(p, y)
    assert 0 < float(whole) < 1
    assert first.compute() == whole
    assert batched.compute() == whole


@every_metric
def test_states_are_summed_counts(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.update(*scores(20, seed=1))
    before = counts(metric)
    assert before

    def two_equal_processes(state: Tensor, group: object = None) -> list[Tensor]:
        return [state, state]

    metric.sync(dist_sync_fn=two_equal_processes, distributed_available=lambda: True)
    after = counts(metric)
    assert all(torch.equal(after[name], 2 * state) for name, state in before.items())


@every_metric
def test_pickling_and_reset(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.update(*scores(50, seed=2))
    value = metric.compute()
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute() == value
    metric.reset()
    metric.update(*scores(50, seed=3))
    assert metric.compute() != value


@every_metric
def test_contract(make: Callable[[], Metric]) -> None:
    metric = make()
    assert metric.higher_is_better is True
    assert metric.is_differentiable is False
    assert metric.full_state_update is False


@pytest.mark.parametrize("name", METRICS)
def test_the_metric_set_gives_the_same(name: str) -> None:
    predictions, labels = scores(200, seed=4)
    value = float(METRICS[name]()(predictions, labels))
    assert sentiment_metrics(predictions, labels)[name] == pytest.approx(value, abs=1e-15)


def test_wrong_options() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        RoundedAccuracy(limit=0)
    with pytest.raises(ValueError, match="has_zero, non_zero"):
        PolarityF1("zero")  # type: ignore[arg-type]
