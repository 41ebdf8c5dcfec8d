"""What `fusionkit bench` prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

from fusionkit.bench.compare import Change
from fusionkit.bench.quiet import DISTURBED
from fusionkit.bench.record import Record
from fusionkit.bench.summary import ClassSummary


def case_table(op: str, records: Sequence[Record]) -> Table:
    """One row for each case, phase and number of threads."""
    table = _table(op, ("case", "variant", "phase"), (
        "threads", "ours", "best other", "ratio", "GFLOP/s", "GB/s", "roofline",
    ))  # fmt: skip
    for record in records:
        best = record.best
        other = f"{best} {format_seconds(record.seconds[best].seconds)}" if best else "-"
        table.add_row(
            record.case, record.variant, record.phase, str(record.threads),
            format_seconds(record.our_seconds) + (" ~" if record.noisy else ""), other,
            _number(record.ratio()), _rate(record.flops, record), _rate(record.bytes, record),
            "-" if record.roofline is None else f"{100 * record.roofline:.0f} %",
        )  # fmt: skip
    return table


def class_table(op: str, lines: Sequence[ClassSummary], *, quick: bool) -> Table:
    """Geometric means beside their goals; a quick run is too short for a verdict."""
    table = _table(f"{op}: ratios by class", ("class", "variant", "phase"), (
        "threads", "against", "cases", "mean", "min", "max", "goal", "met",
    ))  # fmt: skip
    for line in lines:
        verdict = {None: "not measured" if line.goal else "", True: "yes", False: "NO"}[line.met]
        table.add_row(
            line.group, line.variant, line.phase, str(line.threads), line.against, str(line.cases),
            _number(line.mean), _number(line.smallest), _number(line.largest), line.goal,
            "too short" if quick and line.goal else verdict,
        )  # fmt: skip
    return table


def change_table(changes: Sequence[Change]) -> Table:
    """New times over old ones; the column of the best other shows how the machine itself moved."""
    table = _table("change since the other file", ("benchmark", "case", "variant", "phase"), (
        "threads", "old", "new", "new/old", "best other new/old", "",
    ))  # fmt: skip
    for change in changes:
        op, case, variant, phase, threads = change.key
        table.add_row(
            op, case, variant, phase, str(threads), format_seconds(change.old),
            format_seconds(change.new), _number(change.ratio), _number(change.other_ratio),
            change.verdict,
        )  # fmt: skip
    return table


def left_out_lines(records: Sequence[Record], more: Mapping[str, str]) -> list[str]:
    """Who has no time, where, and why."""
    found = Counter(
        (name, record.phase, reason)
        for record in records
        for name, reason in record.left_out.items()
    )
    lines = [
        f"{name} has no time in {count} rows of {phase}: {reason}"
        for (name, phase, reason), count in found.items()
    ]
    return lines + [f"{name} is left out: {reason}" for name, reason in more.items()]


def machine_lines(machine: Mapping[str, Any], ceilings: Mapping[str, Any]) -> list[str]:
    """The machine, and what it can do at best."""
    lines = [
        f"{machine['cpu_model']}, {machine['cores']} cores, {machine['isa']}",
        f"torch {machine['torch']}, fusionkit {machine['fusionkit']}, {machine['compiler']}",
        "allocator: " + " ".join(f"{name}={x}" for name, x in machine["allocator"].items()),
    ]
    for threads, ceiling in ceilings.items():
        copies = ", ".join(f"{name} {speed:.1f}" for name, speed in ceiling["gbytes"].items())
        lines.append(
            f"{threads} threads at best: {ceiling['gflops']:.0f} GFLOP/s (product of matrices), "
            f"copies GB/s: {copies}" + _disturbance(ceiling["others"])
        )
    return lines


def format_seconds(seconds: float) -> str:
    """Three digits and a unit.

    >>> format_seconds(0.0001234), format_seconds(0.0123), format_seconds(12.3)
    ('123 us', '12.3 ms', '12.3 s')
    """
    for factor, unit in ((1e6, "us"), (1e3, "ms")):
        if seconds * factor < 999.5:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds:.3g} s"


def _disturbance(others: float | None) -> str:
    disturbed = others is not None and others > DISTURBED
    return f" (others used {others:.1f} cores meanwhile)" if disturbed else ""


def _rate(amount: float | None, record: Record) -> str:
    return "-" if amount is None else f"{1e-9 * amount / record.our_seconds:.1f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _table(title: str, words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in words:
        table.add_column(name)
    for name in numbers:
        table.add_column(name, justify="right")
    return table
