"""Is one method better than another, seed by seed?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from fusionkit.errors import DataError
from fusionkit.evaluation.statistics import mean_interval

# Below this share of the values' size, differences are equal but for their last bits.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class PairedDifference:
    """Mean difference of two methods, its 95 % interval and the p of a paired t-test.

    ``low``, ``high`` and ``p`` are nan with fewer than two pairs, and where all differences are
    equal: the test needs some spread.
    """

    mean: float
    low: float
    high: float
    p: float

    def to_json(self) -> dict[str, float | None]:
        """JSON-ready; undefined values become null."""
        return {name: None if math.isnan(value) else value for name, value in vars(self).items()}


def paired_difference(values: Sequence[float], others: Sequence[float]) -> PairedDifference:
    """Compare two methods that were run with the same seeds.

    Student's paired t-test, two-sided: it asks whether the mean over all seeds differs, on this
    one split of the data. Other people or samples are another question.

    Args:
        values, others: one number a seed, in the same order of seeds.

    Returns:
        The differences ``values - others``; all nan if a value is nan or there is none.

    Raises:
        DataError: they differ in length.

    >>> found = paired_difference([0.9, 0.8, 0.85], [0.8, 0.75, 0.7])
    >>> round(found.mean, 4), round(found.p, 4)
    (0.1, 0.0742)
    """
    if len(values) != len(others):
        raise DataError(f"paired values: {len(values)} and {len(others)} of them; give pairs")
    differences = np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    if not len(differences) or np.isnan(differences).any():
        return PairedDifference(math.nan, math.nan, math.nan, math.nan)
    mean = float(differences.mean())
    size = float(np.abs([values, others]).max())
    if len(differences) < 2 or float(np.ptp(differences)) <= _ROUNDING * size:
        return PairedDifference(mean, math.nan, math.nan, math.nan)
    low, high = mean_interval(differences.tolist())
    return PairedDifference(mean, low, high, float(stats.ttest_rel(values, others).pvalue))
