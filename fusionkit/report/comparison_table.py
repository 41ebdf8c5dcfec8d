"""The table of a comparison, on the console and as Markdown."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fusionkit.errors import CheckpointError
from fusionkit.evaluation.paired import PairedDifference
from fusionkit.training.checkpoint import write_atomically
from fusionkit.training.comparison import Comparison, Row


def comparison_table(comparison: Comparison) -> RenderableType:
    """The table, and below it everything that its numbers depend on."""
    table = Table(title=comparison.title)
    for index, name in enumerate(_header(comparison)):
        table.add_column(name, justify="right" if index else "left", overflow="fold")
    for cells in _cells(comparison):
        table.add_row(*cells)
    return Group(table, *(Text(line) for line in footnotes(comparison)))


def comparison_markdown(comparison: Comparison) -> str:
    """The same as a Markdown table with its notes as a list."""
    rows = [_header(comparison), *_cells(comparison)]
    table = [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in rows]
    table.insert(1, "|---|" + "---:|" * (len(rows[0]) - 1))
    notes = [f"- {_escaped(line)}" for line in footnotes(comparison)]
    return "\n".join([f"### {comparison.title}", "", *table, "", *notes]) + "\n"


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Store ``results.json`` and ``table.md``.

    Raises:
        CheckpointError: they cannot be written.
    """
    files = {
        "results.json": json.dumps(comparison.to_json(), indent=1),
        "table.md": comparison_markdown(comparison),
    }
    for name, content in files.items():
        try:
            write_atomically(folder / name, content.encode())
        except OSError as error:
            raise CheckpointError(
                f"{folder / name}: cannot be written: {error.strerror}; the runs are complete, so "
                "the same command makes the table again"
            ) from error


def footnotes(comparison: Comparison) -> list[str]:
    """What the numbers are, and what they depend on, one sentence a line."""
    count = len(comparison.seeds)
    direction = "higher" if comparison.higher_is_better else "lower"
    several, seeds = count > 1, ", ".join(map(str, comparison.seeds))
    lines = [
        f"{comparison.metric} (metrics {comparison.metrics!r}): {direction} is better; "
        + (
            f"mean of {count} seeds ({seeds}); brackets: Student's 95 % interval over seeds"
            if several
            else f"seed {seeds}"
        ),
    ]
    if not several:
        lines.append("one seed: no interval and no test; give more, such as --seeds 0-4")
    lines.append(f"baseline: {comparison.baseline_rule}")
    if comparison.baseline is not None and several:
        tests = sum(row.difference is not None for row in comparison.rows)
        lines.append(
            "difference: method minus baseline, paired by seed, with its 95 % interval; p: paired "
            f"t-test, two-sided, not adjusted for the {tests} tests of this table; other seeds, "
            "not other people"
        )
    lines += [f"selection: {rule}" for rule in comparison.selection]
    lines += [
        "step: one training batch; median over the epochs of seconds of an epoch (its validation "
        "included) over its batches, as the runs measured it",
        f"recipe: {comparison.recipe or 'the training options of the method'}",
        f"data: {comparison.data}, SHA-256 {comparison.data_sha256[:12]}; "
        f"split: {comparison.split_rule}",
        *(f"versions: {versions}" for versions in comparison.versions),
        *(f"note: {note}" for note in comparison.notes),
        *(f"failed: {failure}" for failure in comparison.failures),
    ]
    return lines


def _header(comparison: Comparison) -> list[str]:
    columns = ["method", "parameters", "ms a step", f"test {comparison.metric}"]
    if comparison.baseline is not None:
        columns += ["difference to baseline", "p"]
    return columns


def _cells(comparison: Comparison) -> list[list[str]]:
    return [_row(comparison, row) for row in comparison.rows]


def _row(comparison: Comparison, row: Row) -> list[str]:
    step = row.step_seconds
    cells = [
        row.label,
        f"{row.parameters:,}",
        "-" if math.isnan(step) else f"{1000 * step:.1f}",
        "failed"
        if row.failures
        else _number(row.mean(comparison.metric), *row.interval(comparison.metric)),
    ]
    if comparison.baseline is not None:
        cells += _difference(row.difference)
        if row.label == comparison.baseline:
            cells[-2:] = ["baseline", ""]
    return cells


def _difference(difference: PairedDifference | None) -> Sequence[str]:
    if difference is None or math.isnan(difference.mean):
        return ["-", "-"]
    p = difference.p
    return [
        _number(difference.mean, difference.low, difference.high, sign="+"),
        "-" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}",
    ]


def _number(value: float, low: float, high: float, sign: str = "") -> str:
    if math.isnan(value):
        return "-"
    if math.isnan(low):
        return f"{value:{sign}.4f}"
    return f"{value:{sign}.4f} [{low:{sign}.4f}, {high:{sign}.4f}]"


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")
