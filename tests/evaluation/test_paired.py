"""The paired test across seeds, against its textbook formula, and where it is not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fusionkit.errors import DataError
from fusionkit.evaluation.paired import paired_difference

ONE = [0.81, 0.79, 0.86, 0.80, 0.83]
OTHER = [0.78, 0.80, 0.81, 0.77, 0.79]


def test_textbook_formula() -> None:
    differences = np.subtract(ONE, OTHER)
    error = differences.std(ddof=1) / math.sqrt(5)
    t = differences.mean() / error
    found = paired_difference(ONE, OTHER)
    assert found.mean == pytest.approx(differences.mean())
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 4))
    half = stats.t.ppf(0.975, 4) * error
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))
    # The interval leaves out 0 exactly where p is below 0.05.
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)


def test_exchange_turns_the_sign() -> None:
    one, other = paired_difference(ONE, OTHER), paired_difference(OTHER, ONE)
    assert (other.mean, other.low, other.high) == pytest.approx((-one.mean, -one.high, -one.low))
    assert other.p == pytest.approx(one.p)


@pytest.mark.parametrize(
    ("values", "others", "mean"),
    [
        ([0.9], [0.8], 0.1),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 0.0),
        ([0.9, 0.8, 0.7], [0.8, 0.7, 0.6], 0.1),
    ],
)
def test_no_spread_no_test(values: list[float], others: list[float], mean: float) -> None:
    found = paired_difference(values, others)
    assert found.mean == pytest.approx(mean)
    assert all(math.isnan(value) for value in (found.low, found.high, found.p))
    assert found.to_json() == {"mean": found.mean, "low": None, "high": None, "p": None}


@pytest.mark.parametrize(("values", "others"), [([], []), ([0.1, math.nan], [0.1, 0.2])])
def test_undefined_values(values: list[float], others: list[float]) -> None:
    assert set(paired_difference(values, others).to_json().values()) == {None}


def test_pairs_are_needed() -> None:
    with pytest.raises(DataError, match="2 and 1"):
        paired_difference([0.1, 0.2], [0.1])
