"""Geometric means over the cases of a class, beside the goal for it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fusionkit.bench.case import FULL
from fusionkit.bench.goals import GOALS, Goal
from fusionkit.bench.record import Record


@dataclass(frozen=True)
class ClassSummary:
    """Ratios of one class of cases.

    Args:
        op, group, variant, phase, threads: the class. against: contender, or ``best``.
        cases: how many have a ratio. mean: geometric. smallest, largest: of the cases, None for
            none.
        goal: in words, or empty. met: None where there is no goal, or no ratio.
    """

    op: str
    group: str
    variant: str
    phase: str
    threads: int
    against: str
    cases: int
    mean: float | None
    smallest: float | None
    largest: float | None
    goal: str = ""
    met: bool | None = None


def geometric_mean(values: Iterable[float]) -> float:
    """The n-th root of the product of at least one value, each above 0.

    >>> round(geometric_mean([2.0, 8.0]), 6)
    4.0
    """
    logs = [math.log(value) for value in values]
    return math.exp(math.fsum(logs) / len(logs))


def summarize_classes(
    records: Sequence[Record], goals: Sequence[Goal] = GOALS
) -> list[ClassSummary]:
    """One line for every class beside the best contender, and one for every goal beside another."""
    classes: dict[tuple[str, str, str, str, int], list[Record]] = {}
    for record in records:
        key = (record.op, record.group, record.variant, record.phase, record.threads)
        classes.setdefault(key, []).append(record)
    lines = []
    for key, members in classes.items():
        own = {goal.against: goal for goal in goals if _is_for(goal, members[0])}
        lines += [
            _line(key, members, against, own.get(against), classes)
            for against in dict.fromkeys(["best", *own])
        ]
    return lines


def _is_for(goal: Goal, record: Record) -> bool:
    return (goal.op, goal.group, goal.variant, goal.phase) == (
        record.op, record.group, record.variant, record.phase,
    )  # fmt: skip


def _line(
    key: tuple[str, str, str, str, int],
    members: Sequence[Record],
    against: str,
    goal: Goal | None,
    classes: dict[tuple[str, str, str, str, int], list[Record]],
) -> ClassSummary:
    ratios = _ratios(members, against)
    words = goal.in_words() if goal is not None else ""
    if not ratios:
        return ClassSummary(*key, against, 0, None, None, None, words)
    mean, smallest = geometric_mean(ratios), min(ratios)
    met = None
    if goal is not None and goal.rule == "over full":
        op, group, _, phase, threads = key
        full = _ratios(classes.get((op, group, FULL, phase, threads), []), against)
        met = mean >= goal.at_least * geometric_mean(full) if full else None
    elif goal is not None:
        met = (mean if goal.rule == "mean" else smallest) >= goal.at_least
    return ClassSummary(*key, against, len(ratios), mean, smallest, max(ratios), words, met)


def _ratios(records: Sequence[Record], against: str) -> list[float]:
    found = [record.ratio(against) for record in records]
    return [ratio for ratio in found if ratio is not None]
