"""Everything that a run left in its folder of parts, as one `Report` and what goes beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benches.gpu.child import SUITES
from benches.gpu.goals import Outcome, judge
from benches.gpu.journal import Journal
from benches.gpu.junit import TestSummary, read_summary
from benches.gpu.runner import WRONG
from fusionkit.bench.record import Record, Report
from fusionkit.bench.session import SEEDS
from fusionkit.bench.summary import summarize_classes


@dataclass(frozen=True)
class Phase:
    """One phase of the script.

    Args:
        code: its exit status. seconds, limit: taken, and allowed. note: what it left out, and why.
    """

    name: str
    code: int
    seconds: float
    limit: float
    note: str = ""

    def in_words(self) -> str:
        """One line; 124 and 137 are what `timeout` gives."""
        late = self.code in (124, 137)
        how = "its time was over" if late else f"exit code {self.code}" if self.code else "done"
        note = f"; {self.note}" if self.note else ""
        return f"{self.name}: {how}, {self.seconds:.0f} of at most {self.limit:.0f} s{note}"


@dataclass
class Findings:
    """Args: crashes: contender, case and what happened. wrong: lines on results that were off."""

    report: Report
    outcomes: list[Outcome]
    phases: list[Phase]
    tests: TestSummary | None
    crashes: list[list[str]]
    backends: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        """Contenders with a wrong result, each once for a case and phase."""
        return [
            f"{r.op}: {reason.removeprefix(WRONG)}"
            for r in self.report.records
            if not r.phase.endswith("graph")
            for reason in r.left_out.values()
            if reason.startswith(WRONG)
        ]

    def to_json(self) -> dict[str, Any]:
        """What `fusionkit bench --compare` reads, and the rest under names of its own."""
        fields = {name: getattr(self.report, name) for name in self.report.__dataclass_fields__}
        return {
            "schema": 1,
            **fields,
            "records": [record.to_json() for record in self.report.records],
            "goals": [asdict(outcome) for outcome in self.outcomes],
            "phases": [asdict(phase) for phase in self.phases],
            "tests": asdict(self.tests) if self.tests else None,
            "crashes": self.crashes,
            "wrong": self.wrong,
            "backends": self.backends,
        }


def gather(parts: Path, settings: dict[str, Any]) -> Findings:
    """Read a folder of parts; what is missing there is missing in the findings.

    Args:
        settings: with ``scope``; a dry run has times of no meaning, so its goals are not judged.
    """
    facts = _read(parts / "facts.json", {"machine": {}, "ceilings": {}})
    report = Report(facts["machine"], {**settings, "seeds": SEEDS}, facts["ceilings"])
    crashes: list[list[str]] = []
    found: dict[tuple[str, str, str, str, int], Record] = {}
    for suite in SUITES:
        journal = Journal(parts, suite)
        for record in journal.records():
            # A case that broke off is measured again without what broke it: the first has more.
            found.setdefault(record.key, record)
        report.left_out |= dict(journal.lines("left_out"))
        crashes += journal.lines("crash")
    report.records = list(found.values())
    report.classes = [asdict(line) for line in summarize_classes(report.records_with_ours(), [])]
    return Findings(
        report,
        [] if settings["scope"] == "dry" else judge(report.records),
        _phases(parts / "phases.tsv"),
        read_summary(parts / "tests.xml"),
        crashes,
        _read(parts / "backends.json", []),
    )


def _phases(file: Path) -> list[Phase]:
    if not file.exists():
        return []
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    return [
        Phase(name, int(code), float(took), float(limit), note)
        for name, code, took, limit, note in rows
    ]


def _read(file: Path, missing: Any) -> Any:
    return json.loads(file.read_text()) if file.exists() else missing
