"""Writes results.json, table.md and plots of a run, and prints what fits on a screen."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from benches.gpu.contenders import OURS
from benches.gpu.gather import Findings, gather
from benches.gpu.plots import draw
from benches.gpu.runner import GRAPH
from fusionkit.bench.record import Record
from fusionkit.bench.tables import format_seconds, left_out_lines

_SHORT = {"fwd": "fwd", "fwd+bwd": "f+b", "step": "step"}
_MOST_LINES = 8
_SLOWER = 1.15


def short_lines(records: Sequence[Record]) -> list[str]:
    """One line a case: time of ours, ratio to the best other, the same under graphs, roofline.

    The most important suites come last, where they are seen.
    """
    suites: dict[str, dict[str, dict[str, Record]]] = {}
    for record in records:
        cases = suites.setdefault(record.op, {})
        cases.setdefault(f"{record.case}, {record.variant}", {})[record.phase] = record
    lines = []
    for op, cases in reversed(suites.items()):
        lines.append(f"-- {op}: ours, x best other, under graphs, share of roofline")
        for title, phases in cases.items():
            cells = [
                f"{short} {_cell(phases[phase], phases.get(phase + GRAPH))}"
                for phase, short in _SHORT.items()
                if phase in phases
            ]
            lines.append(" | ".join([title, *cells]))
    return lines


def _cell(record: Record, graph: Record | None) -> str:
    if record.ours not in record.seconds:
        return "none of ours"
    name = record.ours.removeprefix("fusionkit").strip() or "chosen"
    parts = [f"{format_seconds(record.our_seconds)} {name}", _times(record.ratio())]
    if graph is not None:
        parts.append("g" + (_times(graph.ratio()) if graph.ours in graph.seconds else "-"))
        record = graph if graph.roofline is not None else record
    if record.roofline is not None:
        parts.append(f"{100 * record.roofline:.0f} %")
    return " ".join(parts)


def _times(ratio: float | None) -> str:
    return "x-" if ratio is None else f"x{ratio:.2f}"


def table(findings: Findings) -> str:
    """Everything, in Markdown."""
    machine = findings.report.machine
    lines = [f"# GPU check: {machine.get('device', 'unknown device')}", ""]
    lines += [f"- {name}: {value}" for name, value in machine.items()]
    for name, ceiling in findings.report.ceilings.items():
        copy = ceiling["gbytes"]["memory"]
        lines.append(f"- at best, {name}: {ceiling['gflops']:.5g} GFLOP/s, {copy:.5g} GB/s")
    lines += ["", "## Phases", "", *_items([phase.in_words() for phase in findings.phases])]
    lines += ["", "## Goals", "", *_items([o.in_words() for o in findings.outcomes])]
    lines += ["", "## Tests", "", *_items(_test_lines(findings))]
    lines += ["", "## Went wrong", "", *_items(_wrong_lines(findings))]
    lines += ["", "## Dispatch chose what is slower", ""]
    lines += _items(dispatch_lines(findings.report.records))
    lines += ["", "## Backends", "", *_items(findings.backends)]
    op = ""
    for record in findings.report.records:
        if record.op != op:
            op = record.op
            lines += ["", f"## {op}", "", "| case | variant | phase | ours | ratio | roofline | "
                      "times, fastest first |", "|---|---|---|---|---|---|---|"]  # fmt: skip
        lines.append(_row(record))
    lines += ["", "## Left out", ""]
    return "\n".join([*lines, *_items(left_out_lines(findings.report.records,
                                                     findings.report.left_out)), ""])  # fmt: skip


def _row(record: Record) -> str:
    times = sorted(record.seconds.items(), key=lambda item: item[1].seconds)
    shown = ", ".join(
        f"{name} {format_seconds(t.seconds)}{' ~' if t.noisy else ''}" for name, t in times
    )
    ratio = record.ratio() if record.ours in record.seconds else None
    roofline = "-" if record.roofline is None else f"{100 * record.roofline:.0f} %"
    ours = record.ours if record.ours in record.seconds else "-"
    cells = (record.case, record.variant, record.phase, ours, _times(ratio), roofline, shown)
    return "| " + " | ".join(cells) + " |"


def _items(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines] or ["- nothing"]


def _test_lines(findings: Findings) -> list[str]:
    if findings.tests is None:
        return ["pytest wrote no summary: see log.txt"]
    counts = ", ".join(f"{count} {what}" for what, count in findings.tests.counts.items())
    failed = [f"FAILED {name}: {why}" for name, why in findings.tests.failures.items()]
    return [counts, *failed, *(f"{n} skipped: {why}" for why, n in findings.tests.skipped.items())]


def _wrong_lines(findings: Findings) -> list[str]:
    ended = [f"{name}, {case}: {what}" for name, case, what in findings.crashes]
    return [*ended, *findings.wrong]


def dispatch_lines(records: Sequence[Record]) -> list[str]:
    """Where dispatch chose a backend that is slower by over 15 % than the best kernel."""
    lines = []
    for record in records:
        chosen = record.seconds.get(OURS)
        if chosen is None or record.phase.endswith(GRAPH):
            continue
        times = chosen.seconds / record.our_seconds
        if times > _SLOWER:
            where = f"{record.op} {record.case}, {record.variant}, {record.phase}"
            lines.append(f"{times:.2f} times {record.ours}: {where}")
    return lines


def print_short(findings: Findings) -> None:
    """What fits into the last 12,000 characters: the verdicts last."""
    print("\n== cases\n" + "\n".join(short_lines(findings.report.records)))
    for title, lines in (
        ("tests", _test_lines(findings)),
        ("went wrong", _wrong_lines(findings)),
        ("dispatch chose what is slower", dispatch_lines(findings.report.records)),
        ("phases", [phase.in_words() for phase in findings.phases]),
        ("goals", [outcome.in_words() for outcome in findings.outcomes]),
    ):
        shown = lines if title in ("phases", "goals") else [x[:140] for x in lines[:_MOST_LINES]]
        more = len(lines) - len(shown)
        words = "\n".join(shown) or "nothing"
        print(f"\n== {title}\n{words}" + (f"\n... and {more} more" if more else ""))


def main() -> None:
    """Read the parts, write the files, print the short table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="for the result files")
    parser.add_argument("--scope", default="full")
    asked = parser.parse_args()
    findings = gather(asked.parts, {"scope": asked.scope})
    (asked.folder / "results.json").write_text(json.dumps(findings.to_json(), indent=1) + "\n")
    (asked.folder / "table.md").write_text(table(findings))
    try:
        draw(findings.report.records_with_ours(), asked.folder)
    # The table has it all.
    except Exception as error:
        print(f"not all plots: {type(error).__name__}: {error}")
    print_short(findings)


if __name__ == "__main__":
    main()
