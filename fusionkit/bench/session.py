"""One call of `fusionkit bench`: the machine's ceilings, then suite after suite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

from fusionkit.bench.case import Suite
from fusionkit.bench.ceilings import Ceilings, measure_ceilings
from fusionkit.bench.correctness import CheckFailedError
from fusionkit.bench.machine import machine_facts
from fusionkit.bench.record import Record, Report
from fusionkit.bench.runner import run_suite
from fusionkit.bench.summary import summarize_classes
from fusionkit.bench.timing import QUICK, Plan

SEEDS = {"inputs": 0, "upstream gradients": 1, "dropout": 1}


def start_report(
    ops: Sequence[str], threads: Sequence[int], *, quick: bool = False
) -> tuple[Report, dict[int, Ceilings]]:
    """A report without records, and what the machine can do with each number of threads."""
    plan = QUICK if quick else Plan()
    seconds, repeats = (0.05, 0) if quick else (0.5, 3)
    ceilings = {count: measure_ceilings(count, seconds, repeats) for count in threads}
    settings = {"ops": list(ops), "threads": list(threads), "quick": quick, "seeds": SEEDS}
    report = Report(machine_facts(), settings | {"plan": asdict(plan)})
    report.ceilings = {str(count): ceiling.to_json() for count, ceiling in ceilings.items()}
    return report, ceilings


def add_suite(
    report: Report,
    suite: Suite,
    ceilings: dict[int, Ceilings],
    *,
    quick: bool = False,
    on_start: Callable[[str], None] = lambda what: None,
) -> list[Record]:
    """Measure a suite; what is found goes into the report, and the records are returned.

    A suite with a wrong result gives no records: the report says why it was refused.
    """
    report.left_out |= suite.left_out
    try:
        records = run_suite(
            suite, ceilings, QUICK if quick else Plan(), quick=quick, on_start=on_start
        )
    except CheckFailedError as error:
        report.refused[suite.name] = str(error)
        return []
    report.records += records
    report.classes += [asdict(line) for line in summarize_classes(records)]
    return records
