"""New times beside those of an earlier file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fusionkit.bench.record import Record

CHANGED = 0.1


@dataclass(frozen=True)
class Change:
    """One measurement that both files have.

    Args:
        key: as `Record.key`. old, new: seconds of ours.
        other_ratio: new over old of the contender that is best now, which shows how the machine
            itself moved; None where the old file has no time of it.
    """

    key: tuple[str, str, str, str, int]
    old: float
    new: float
    other_ratio: float | None

    @property
    def ratio(self) -> float:
        """New over old: above 1 is slower."""
        return self.new / self.old

    @property
    def verdict(self) -> str:
        """``slower`` or ``faster`` by more than 10 %, else empty."""
        if self.ratio > 1.0 + CHANGED:
            return "SLOWER"
        return "faster" if self.ratio < 1.0 / (1.0 + CHANGED) else ""


def compare_records(old: Sequence[Record], new: Sequence[Record]) -> list[Change]:
    """The measurements that are in both, in the order of the new ones."""
    before = {record.key: record for record in old}
    return [_change(before[record.key], record) for record in new if record.key in before]


def _change(old: Record, new: Record) -> Change:
    best = new.best
    other = None
    if best is not None and best in old.seconds:
        other = new.seconds[best].seconds / old.seconds[best].seconds
    return Change(new.key, old.our_seconds, new.our_seconds, other)
