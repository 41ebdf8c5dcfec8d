"""What a comparison found: one row a method, its seeds, and the paired test against a baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from fusionkit.evaluation.paired import PairedDifference, paired_difference
from fusionkit.evaluation.statistics import Interval, mean_interval
from fusionkit.training.result import RunResult


@dataclass(frozen=True)
class Row:
    """One method.

    Args:
        label: the method with its options. parameters: trained numbers of its model.
        single: whether it uses one modality alone.
        batches: steps of an epoch. runs: seed -> result. failures: seed -> what went wrong.
        difference: to the baseline; None for the baseline itself and without one.
    """

    label: str
    parameters: int
    single: bool
    batches: int
    runs: Mapping[int, RunResult]
    failures: Mapping[int, str]
    difference: PairedDifference | None = None

    def scores(self, metric: str, split: str = "test") -> list[float]:
        """Values of a metric, one a seed, in the order of the seeds; nan where undefined."""
        found = []
        for run in self.runs.values():
            score = (run.test if split == "test" else run.validation).get(metric)
            found.append(math.nan if score is None else score.value)
        return found

    def mean(self, metric: str, split: str = "test") -> float:
        """Mean over the seeds; nan if a seed failed: the rest would be a choice of the lucky."""
        scores = self.scores(metric, split)
        return fmean(scores) if scores and not self.failures else math.nan

    def interval(self, metric: str) -> Interval:
        """Student's 95 % interval of the mean of the test scores over seeds."""
        return (math.nan, math.nan) if self.failures else mean_interval(self.scores(metric))

    @property
    def step_seconds(self) -> float:
        """Median over all epochs of all runs: seconds of an epoch, its validation too, a batch."""
        times = [r["seconds"] for run in self.runs.values() for r in run.history]
        return median(times) / self.batches if times else math.nan


@dataclass(frozen=True)
class Comparison:
    """A table, and all that its numbers depend on.

    Args:
        title: what is compared. rows: in the order asked for. seeds: of every row.
        metric: the one that is compared. higher_is_better: its direction.
        baseline: label of a row, or None. baseline_rule: how it was found, or why there is none.
        selection: how the epoch of each run was chosen, one line a rule.
        data, data_sha256, split_rule: what was measured on. versions: of the runs.
        notes: what else a reader must know.
    """

    title: str
    rows: Sequence[Row]
    seeds: tuple[int, ...]
    metrics: str
    metric: str
    higher_is_better: bool
    baseline: str | None
    baseline_rule: str
    recipe: str | None
    selection: Sequence[str]
    data: str
    data_sha256: str
    split_rule: str
    versions: Sequence[str]
    notes: Sequence[str]

    @property
    def failures(self) -> list[str]:
        """One line for every run that failed."""
        return [
            f"{row.label}, seed {seed}: {reason}"
            for row in self.rows
            for seed, reason in row.failures.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, with every metric of every seed; undefined values become null."""
        content = {name: value for name, value in vars(self).items() if name != "rows"}
        content["seeds"], content["failures"] = list(self.seeds), self.failures
        content["rows"] = [_row_json(row, self.metric) for row in self.rows]
        return content


def choose_baseline(
    rows: Sequence[Row], wanted: str | None, metric: str, higher_is_better: bool
) -> tuple[str | None, str]:
    """The row that the others are compared with, and the reason in words.

    Without a wish, it is the single modality with the best mean on the validation data: the test
    data choose nothing.
    """
    if wanted is not None:
        return wanted, wanted
    single = [(row.mean(metric, "validation"), row.label) for row in rows if row.single]
    defined = [pair for pair in single if not math.isnan(pair[0])]
    if not single:
        return None, (
            "none: no single modality is among the methods; add unimodal:MODALITY, or name one "
            "with --baseline"
        )
    if not defined:
        return None, "none: no single modality has a defined validation score for every seed"
    best = max(defined, key=lambda pair: pair[0] if higher_is_better else -pair[0])
    return best[1], (
        f"{best[1]}, the best of {len(single)} single-modality methods by mean validation {metric}"
    )


def difference_to(row: Row, baseline: Row | None, metric: str) -> PairedDifference | None:
    """Paired difference of the test scores; None without a partner or with failed runs."""
    if baseline is None or row is baseline or row.failures or baseline.failures:
        return None
    return paired_difference(row.scores(metric), baseline.scores(metric))


def _row_json(row: Row, metric: str) -> dict[str, Any]:
    low, high = row.interval(metric)
    mean = row.mean(metric)
    return {
        "method": row.label,
        "parameters": row.parameters,
        "step_seconds": _defined(row.step_seconds),
        "mean": _defined(mean),
        "low": _defined(low),
        "high": _defined(high),
        "validation_mean": _defined(row.mean(metric, "validation")),
        "difference": None if row.difference is None else row.difference.to_json(),
        "runs": {
            str(seed): {
                "folder": str(run.folder),
                "best_epoch": run.best_epoch,
                "validation": {name: _defined(s.value) for name, s in run.validation.items()},
                "test": {name: _defined(s.value) for name, s in run.test.items()},
            }
            for seed, run in row.runs.items()
        },
    }


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
