"""Intervals: how far a value could be off, over the samples of a test set or over seeds."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from fusionkit.errors import DataError
from fusionkit.evaluation.undefined import UndefinedMetricError

Interval = tuple[float, float]
_NO_INTERVAL = (math.nan, math.nan)


def bootstrap_intervals(
    compute: Callable[[Any, Any], Mapping[str, float]],
    predictions: Any,
    targets: Any,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int,
) -> dict[str, Interval]:
    """Percentile bootstrap intervals of all values that ``compute`` gives, in one pass.

    A resample draws N samples with replacement, prediction and target together (Efron and
    Tibshirani 1993, chapter 13). With ``groups`` it draws whole groups instead, as many as there
    are: samples of one subject are alike, and drawing them one by one makes intervals too narrow.

    Args:
        compute: (predictions, targets) -> name -> value.
        predictions, targets: tensors or arrays (N, ...), indexed along the first axis.
        groups: N labels, such as the subject of each sample.
        confidence: share of the bootstrap distribution inside the interval, in (0, 1).
        resamples: how many times ``compute`` is called, at least 1.
        seed: the same seed gives the same intervals.

    Returns:
        name -> (low, high), for the names that the whole data give. Resamples in which a value is
        undefined (nan, absent, or `UndefinedMetricError`) are left out; (nan, nan) where all are,
        or with fewer than two samples or groups.

    Raises:
        DataError: predictions, targets and groups differ in length.
    """
    lengths = {len(x) for x in (predictions, targets, groups) if x is not None}
    if len(lengths) > 1:
        raise DataError(
            f"predictions, targets and groups must have one length, not {sorted(lengths)}"
        )
    names = list(_defined(compute, predictions, targets))
    rows_of, units = _resampling(len(targets), groups)
    if units < 2 or not names:
        return dict.fromkeys(names, _NO_INTERVAL)

    def statistic(drawn: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        values = np.empty((len(names), *drawn.shape[:-1]))
        for position in np.ndindex(drawn.shape[:-1]):
            rows = rows_of(drawn[position])
            found = _defined(compute, predictions[rows], targets[rows])
            values[(slice(None), *position)] = [found.get(name, math.nan) for name in names]
        return values

    with warnings.catch_warnings(), _one_thread():
        # scipy warns of undefined resamples, which are left out below
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        distribution = stats.bootstrap(
            (np.arange(units),),
            statistic,
            n_resamples=resamples,
            batch=50,
            vectorized=True,
            method="percentile",
            random_state=np.random.default_rng(seed),
        ).bootstrap_distribution
    return {name: _middle(d, confidence) for name, d in zip(names, distribution, strict=True)}


def bootstrap_interval(
    statistic: Callable[[Any, Any], float],
    predictions: Any,
    targets: Any,
    *,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int,
) -> Interval:
    """(low, high) of one value; see `bootstrap_intervals`.

    >>> truth = np.array([1.0] * 90 + [0.0] * 10)
    >>> low, high = bootstrap_interval(lambda p, y: (p == y).mean(), np.ones(100), truth, seed=0)
    >>> 0.8 < low < 0.9 < high < 1.0
    True
    """
    return bootstrap_intervals(
        lambda p, y: {"value": float(statistic(p, y))},
        predictions,
        targets,
        groups=groups,
        confidence=confidence,
        resamples=resamples,
        seed=seed,
    ).get("value", _NO_INTERVAL)


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of a few independent runs, such as seeds.

    Returns:
        (low, high), which is mean -+ t s / sqrt(n) with n - 1 degrees of freedom; (nan, nan) for
        fewer than two values or if one is nan.

    >>> low, high = mean_interval([1.0, 2.0, 3.0])
    >>> round(low, 4), round(high, 4)
    (-0.4841, 4.4841)
    """
    if len(values) < 2 or any(math.isnan(value) for value in values):
        return _NO_INTERVAL
    mean = float(np.mean(values))
    quantile = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    half = quantile * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def _defined(
    compute: Callable[[Any, Any], Mapping[str, float]], predictions: Any, targets: Any
) -> Mapping[str, float]:
    try:
        return compute(predictions, targets)
    except UndefinedMetricError:
        return {}


@contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of tiny torch calls: waking threads would cost more than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _resampling(
    samples: int, groups: Sequence[Any] | NDArray[Any] | None
) -> tuple[Callable[[NDArray[np.int64]], NDArray[np.int64]], int]:
    """What turns drawn units into rows, and the number of units (samples or groups)."""
    if groups is None:
        return lambda drawn: drawn, samples
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    members = [np.flatnonzero(group_of == group) for group in range(len(names))]
    return lambda drawn: np.concatenate([members[group] for group in drawn]), len(names)


def _middle(distribution: NDArray[np.float64], confidence: float) -> Interval:
    kept = distribution[~np.isnan(distribution)]
    if not kept.size:
        return _NO_INTERVAL
    tail = 50 * (1 - confidence)
    low, high = np.percentile(kept, [tail, 100 - tail])
    return float(low), float(high)
