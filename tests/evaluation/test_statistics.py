"""Intervals against known cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from fusionkit.errors import DataError
from fusionkit.evaluation.statistics import bootstrap_interval, bootstrap_intervals, mean_interval
from fusionkit.evaluation.undefined import UndefinedMetricError


def mean_difference(p: Any, y: Any) -> float:
    return float((p - y).mean())


def normal(n: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=n)


def test_mean_of_normal_values() -> None:
    y = normal(400)
    low, high = bootstrap_interval(mean_difference, y, np.zeros(400), resamples=2000, seed=1)
    half = 1.96 * y.std() / math.sqrt(400)
    assert low == pytest.approx(y.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(y.mean() + half, abs=0.1 * half)


def test_confidence_widens() -> None:
    y, zero = normal(100), np.zeros(100)
    narrow = bootstrap_interval(mean_difference, y, zero, confidence=0.5, seed=0)
    wide = bootstrap_interval(mean_difference, y, zero, confidence=0.99, seed=0)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert narrow[1] - narrow[0] == pytest.approx(2 * 0.6745 * y.std() / 10, rel=0.15)


def test_pairs_stay_together() -> None:
    y = normal(50)
    assert bootstrap_interval(mean_difference, y + 2.0, y, seed=0) == pytest.approx((2, 2))


def test_seed_decides() -> None:
    y, zero = normal(60), np.zeros(60)
    first, again, other = (bootstrap_interval(mean_difference, y, zero, seed=s) for s in (3, 3, 4))
    assert first == again != other


def test_tensors_and_arrays_agree() -> None:
    y, zero = normal(60), np.zeros(60)
    as_tensors = bootstrap_interval(
        mean_difference, torch.from_numpy(y)[:, None], torch.from_numpy(zero)[:, None], seed=0
    )
    assert as_tensors == pytest.approx(bootstrap_interval(mean_difference, y, zero, seed=0))


def test_groups_are_drawn_whole() -> None:
    values = normal(10)
    y, zero, groups = np.repeat(values, 20), np.zeros(200), np.repeat(list("abcdefghij"), 20)
    order = np.random.default_rng(0).permutation(200)
    shuffled = bootstrap_interval(mean_difference, y[order], zero, groups=groups[order], seed=0)
    by_group = bootstrap_interval(mean_difference, y, zero, groups=groups, seed=0)
    of_means = bootstrap_interval(mean_difference, values, np.zeros(10), seed=0)
    by_sample = bootstrap_interval(mean_difference, y, zero, seed=0)
    assert by_group == pytest.approx(of_means)
    assert shuffled == pytest.approx(of_means)
    assert by_sample[1] - by_sample[0] < 0.4 * (by_group[1] - by_group[0])


def test_groups_of_unequal_size_keep_all_their_samples() -> None:
    sizes = set()

    def size(p: Any, y: Any) -> float:
        sizes.add(len(p))
        return float(len(p))

    bootstrap_interval(size, np.zeros(4), np.zeros(4), groups=[7, 3, 3, 3], resamples=200, seed=0)
    assert sizes == {2, 4, 6}


def test_undefined_resamples_are_left_out() -> None:
    def sometimes(p: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        if p[0] > 1:
            raise UndefinedMetricError("undefined")
        return math.nan if p[0] < -1 else float(p[0])

    y = normal(200)
    interval = bootstrap_interval(sometimes, y, np.zeros(200), seed=0)
    assert interval == pytest.approx(np.percentile(y[abs(y) <= 1], [2.5, 97.5]), abs=0.05)


def test_undefined_everywhere() -> None:
    low, high = bootstrap_interval(lambda p, y: math.nan, np.zeros(5), np.zeros(5), seed=0)
    assert math.isnan(low)
    assert math.isnan(high)

    def refuse(p: Any, y: Any) -> float:
        raise UndefinedMetricError("undefined")

    assert all(map(math.isnan, bootstrap_interval(refuse, np.zeros(5), np.zeros(5), seed=0)))


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_one_unit_has_no_interval(groups: list[str] | None) -> None:
    interval = bootstrap_interval(mean_difference, np.ones(1), np.ones(1), groups=groups, seed=0)
    assert all(map(math.isnan, interval))


def test_other_errors_are_not_swallowed() -> None:
    def broken(p: Any, y: Any) -> float:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bootstrap_interval(broken, np.ones(3), np.ones(3), seed=0)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    seen = set()

    def threads(p: Any, y: Any) -> float:
        seen.add(torch.get_num_threads())
        return 0.0

    bootstrap_interval(threads, np.ones(3), np.ones(3), resamples=5, seed=0)
    assert seen == {before, 1}
    assert torch.get_num_threads() == before


def test_lengths_must_agree() -> None:
    with pytest.raises(DataError, match=r"one length, not \[2, 3\]"):
        bootstrap_interval(mean_difference, np.ones(3), np.ones(3), groups=[0, 1], seed=0)


def test_all_values_in_one_pass() -> None:
    y, zero = normal(40), np.zeros(40)
    calls = 0

    def compute(p: Any, y: Any) -> dict[str, float]:
        nonlocal calls
        calls += 1
        return {"mean": mean_difference(p, y), "spread": float(p.std())}

    both = bootstrap_intervals(compute, y, zero, resamples=120, seed=5)
    assert calls == 121
    alone = bootstrap_interval(mean_difference, y, zero, resamples=120, seed=5)
    assert both["mean"] == alone
    assert both["spread"][0] < y.std() < both["spread"][1]


def test_mean_interval_of_student() -> None:
    # s = 1, t(0.975, 4 degrees of freedom) = 2.776445
    values = np.array([-1.0, -1, 0, 1, 1]) + 10
    half = 2.7764451 / math.sqrt(5)
    assert mean_interval(list(values)) == pytest.approx((10 - half, 10 + half))
    half = 2.1318468 / math.sqrt(5)
    assert mean_interval(list(values), confidence=0.9) == pytest.approx((10 - half, 10 + half))


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan, 2.0]])
def test_mean_interval_undefined(values: list[float]) -> None:
    assert all(map(math.isnan, mean_interval(values)))


def test_mean_interval_of_equal_values() -> None:
    assert mean_interval([2.0, 2.0, 2.0]) == (2, 2)
