"""The table at the end of a run: every number with its interval and what it depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from fusionkit.evaluation.protocol import Score
    from fusionkit.training.result import RunResult


def results_table(result: RunResult) -> RenderableType:
    """Validation and test values with 95 % intervals, and the selection rule below."""
    table = Table(title=f"{result.method} on {result.data}")
    table.add_column("metric")
    table.add_column("validation", justify="right")
    table.add_column("test", justify="right")
    for name in result.test:
        table.add_row(
            name, format_score(result.validation.get(name)), format_score(result.test[name])
        )
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    lines = [
        f"selection: {result.selection}: epoch {result.best_epoch} of {result.epochs}",
        f"brackets: {result.interval}",
        f"seed {result.seed}, data SHA-256 {result.data_sha256[:12]}, metrics {result.metrics!r}",
        versions,
    ]
    return Group(table, *(Text(line) for line in lines))


def scores_table(title: str, scores: Mapping[str, Score]) -> Table:
    """One split's values with their intervals."""
    table = Table(title=title)
    table.add_column("metric")
    table.add_column("value [95 % interval]", justify="right")
    for name, value in scores.items():
        table.add_row(name, format_score(value))
    return table


def format_score(score: Score | None) -> str:
    """``0.8312 [0.8100, 0.8520]``; a dash where the value is undefined.

    >>> from fusionkit.evaluation.protocol import Score
    >>> format_score(Score(0.5, 0.4, 0.6))
    '0.5000 [0.4000, 0.6000]'
    """
    if score is None or math.isnan(score.value):
        return "-"
    if math.isnan(score.low):
        return f"{score.value:.4f}"
    return f"{score.value:.4f} [{score.low:.4f}, {score.high:.4f}]"


def print_result(console: Console, result: RunResult) -> None:
    """The table, where the run lies, and how to predict with it."""
    console.print(results_table(result), soft_wrap=True)
    console.print(f"run folder: {result.folder}", highlight=False, soft_wrap=True)
    console.print(
        f"predict with: fusionkit predict {result.folder} {result.folder / 'examples.npz'}",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        "(examples.npz holds three test samples; lay out your own in the same way)",
        highlight=False,
        soft_wrap=True,
    )
