"""What was measured, as data, and the JSON file that holds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fusionkit.bench.timing import Timing
from fusionkit.errors import DataError

SCHEMA = 1


@dataclass(frozen=True)
class Record:
    """One case in one phase with a number of threads.

    Args:
        op, case, group, variant, phase, threads: what was measured; ``group`` is the class.
        seconds: contender -> `Timing`. ours: name of ours. comparable: torch contenders that
            compute the same. left_out: contender -> why it has no time.
        errors: contender -> error over the allowed error, at most 1.
        flops, bytes: work of a call, or None. roofline: share of the machine's roofline that ours
            reaches, or None.
    """

    op: str
    case: str
    group: str
    variant: str
    phase: str
    threads: int
    ours: str
    seconds: Mapping[str, Timing]
    comparable: tuple[str, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)
    flops: float | None = None
    bytes: float | None = None
    roofline: float | None = None

    @property
    def key(self) -> tuple[str, str, str, str, int]:
        """What makes two records of different files the same measurement."""
        return (self.op, self.case, self.variant, self.phase, self.threads)

    @property
    def our_seconds(self) -> float:
        """Of a call of ours."""
        return self.seconds[self.ours].seconds

    @property
    def best(self) -> str | None:
        """The fastest contender that computes the same; None where there is none."""
        return min(self.comparable, key=lambda name: self.seconds[name].seconds, default=None)

    @property
    def noisy(self) -> bool:
        """Whether a contender never had the machine to itself."""
        return any(timing.noisy for timing in self.seconds.values())

    def ratio(self, against: str = "best") -> float | None:
        """How many times faster ours is than a contender; None where that has no time."""
        name = self.best if against == "best" else against
        if name is None or name not in self.seconds:
            return None
        return self.seconds[name].seconds / self.our_seconds

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` reads it back. ``ratio`` is there for readers."""
        ratio = self.ratio() if self.ours in self.seconds else None
        return {**asdict(self), "best": self.best, "ratio": ratio, "noisy": self.noisy}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Record:
        """The inverse of `to_json`."""
        fields = {name: content[name] for name in cls.__dataclass_fields__}
        fields["seconds"] = {name: Timing(**t) for name, t in content["seconds"].items()}
        fields["comparable"] = tuple(content["comparable"])
        return cls(**fields)


@dataclass
class Report:
    """All that one call of `fusionkit bench` found.

    Args:
        machine: as `machine_facts`. settings: ops, threads, quick, seed.
        ceilings: number of threads (as text) -> the machine's best speeds.
        refused: op -> why no time is shown. left_out: op or contender -> why it is missing.
    """

    machine: dict[str, Any]
    settings: dict[str, Any]
    ceilings: dict[str, Any] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    classes: list[dict[str, Any]] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def records_with_ours(self) -> list[Record]:
        """Those in which one of ours has a time, so that there are ratios."""
        return [record for record in self.records if record.ours in record.seconds]

    def write(self, file: Path) -> None:
        """As JSON."""
        content = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in self.__dataclass_fields__},
            "records": [record.to_json() for record in self.records],
        }
        file.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, file: Path) -> Report:
        """A file that `write` wrote.

        Raises:
            DataError: it is not one.
        """
        try:
            content = json.loads(file.read_text())
            if content["schema"] != SCHEMA:
                raise DataError(
                    f"{file}: has schema {content['schema']}, this version reads {SCHEMA}; "
                    "measure again with `fusionkit bench --json`"
                )
            fields = {name: content[name] for name in cls.__dataclass_fields__}
            fields["records"] = [Record.from_json(record) for record in content["records"]]
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"{file}: was not written by `fusionkit bench --json` ({type(error).__name__})"
            ) from error
