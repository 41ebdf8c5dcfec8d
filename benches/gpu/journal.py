"""What a suite has found so far, on disk after every case, so that a crash loses one case only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fusionkit.bench.record import Record


class Journal:
    """A file of JSON lines, and beside it what runs at this moment.

    Args:
        folder: of the parts. suite: name of the files.
    """

    def __init__(self, folder: Path, suite: str) -> None:
        self.file, self._now = folder / f"{suite}.jsonl", folder / f"{suite}.now"

    def add(self, kind: str, value: Any) -> None:
        """Append one line: ``record``, ``done`` (a case), ``left_out`` or ``crash``."""
        with self.file.open("a") as file:
            file.write(json.dumps({kind: value}) + "\n")

    def lines(self, kind: str) -> list[Any]:
        """All values of a kind, in the order in which they came."""
        if not self.file.exists():
            return []
        lines = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [line[kind] for line in lines if kind in line]

    def records(self) -> list[Record]:
        """What was measured."""
        return [Record.from_json(content) for content in self.lines("record")]

    def mark(self, what: str) -> None:
        """Say what runs now: the contender, after a tab the case."""
        self._now.write_text(what)

    def running(self) -> str:
        """What ran last; empty before anything did."""
        return self._now.read_text() if self._now.exists() else ""

    def still_since(self, started: float) -> float:
        """When (Unix time) the last mark was made, ``started`` if there is none since."""
        return max(started, self._now.stat().st_mtime) if self._now.exists() else started
