"""A short account of pytest's XML: how many tests passed, and what failed with which message."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

_MOST_CHARACTERS = 300


@dataclass(frozen=True)
class TestSummary:
    """Args: counts: outcome -> tests. failures: test -> message. skipped: reason -> tests."""

    __test__ = False

    counts: dict[str, int]
    failures: dict[str, str]
    skipped: dict[str, int]


def read_summary(file: Path) -> TestSummary | None:
    """None where pytest wrote no complete file, because its time was over, say."""
    try:
        root = ElementTree.parse(file).getroot()
    except (OSError, ElementTree.ParseError):
        return None
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    failures: dict[str, str] = {}
    skipped: dict[str, int] = {}
    for case in root.iter("testcase"):
        name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
        broken = case.find("failure") if case.find("failure") is not None else case.find("error")
        reason = case.find("skipped")
        if broken is not None:
            counts["failed"] += 1
            failures[name] = broken.get("message", "").replace("\n", " ")[:_MOST_CHARACTERS]
        elif reason is not None:
            counts["skipped"] += 1
            words = reason.get("message", "")
            skipped[words] = skipped.get(words, 0) + 1
        else:
            counts["passed"] += 1
    return TestSummary(counts, failures, skipped)
