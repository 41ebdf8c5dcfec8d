"""What the GPU kernels should reach, as data, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benches.gpu.runner import GRAPH
from benches.gpu.suite_cross_attention_pairs import SIX_SDPA
from benches.gpu.suite_gated_mask import LARGE
from benches.gpu.suite_training_step import STEP
from benches.gpu.torch_attention import FLASH
from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL
from fusionkit.bench.goals import PACKED, PADDED
from fusionkit.bench.record import Record

ROOFLINE = "copy bandwidth"


@dataclass(frozen=True)
class DeviceGoal:
    """One line of the table of goals; it holds for every case that fits.

    Args:
        op: of the records. words: that the case's name or group has all. variant, phase: likewise.
        against: contender, or `ROOFLINE`. at_least: its time over ours, or the share.
        our_phase: the phase that ours is taken from, if another one.
    """

    op: str
    words: tuple[str, ...]
    variant: str
    phase: str
    against: str
    at_least: float
    our_phase: str = ""

    @property
    def title(self) -> str:
        """Such as ``gated_mask over 256 MB, full, fwd: copy bandwidth >= 0.85``."""
        ours = f" (ours: {self.our_phase})" if self.our_phase else ""
        where = f"{self.op} {' '.join(self.words)}, {self.variant}, {self.phase}{ours}"
        return f"{where}: {self.against} >= {self.at_least:g}"


@dataclass(frozen=True)
class Outcome:
    """A goal beside what was measured.

    Args:
        title: of the goal. case: which it was measured on, or empty. found: ratio or share, None
            if it was not measured. met: None then, too.
    """

    title: str
    case: str
    found: float | None
    met: bool | None

    def in_words(self) -> str:
        """One line."""
        if self.found is None:
            return f"not measured  {self.title}"
        return (
            f"{'met   ' if self.met else 'MISSED'} {self.found:5.2f}  {self.title}  [{self.case}]"
        )


def _phases(phases: tuple[str, ...], at_least: float, **rest: object) -> list[DeviceGoal]:
    return [DeviceGoal(phase=phase, at_least=at_least, **rest) for phase in phases]  # type: ignore[arg-type]


GOALS: tuple[DeviceGoal, ...] = (
    *(
        goal
        for phases, at_least in (((FORWARD, BOTH), 3.0), ((FORWARD + GRAPH, BOTH + GRAPH), 1.5))
        for goal in _phases(phases, at_least, op="cross_attention_pairs", words=("float32",),
                            variant=FULL, against=SIX_SDPA)
    ),
    *_phases((FORWARD, BOTH), 0.85, op="gated_mask", words=(LARGE, "float32"), variant=FULL,
             against=ROOFLINE),
    *_phases((FORWARD, BOTH), 0.8, op="cross_attention", words=("D64", "2048x2048", "float16"),
             variant=FULL, against=FLASH),
    *_phases((FORWARD, BOTH), 0.8, op="cross_attention", words=("D64", "2048x2048", "bfloat16"),
             variant=FULL, against=FLASH),
    *(
        DeviceGoal("training_step", words, variant, STEP, against, at_least, our_phase)
        for words, at_least in ((("mmlatch",), 5.0), (("mult unaligned",), 4.0))
        for variant, against in ((PARTIAL, PACKED), (FULL, PADDED))
        for our_phase in ("", STEP + GRAPH)
    ),
)  # fmt: skip


def judge(records: Sequence[Record], goals: Sequence[DeviceGoal] = GOALS) -> list[Outcome]:
    """Every goal on every case that it is for, in the order of the goals."""
    known = {record.key: record for record in records}
    outcomes = []
    for goal in goals:
        fitting = [record for record in records if _is_for(goal, record)]
        found = [_judge_one(goal, record, known) for record in fitting]
        measured = [outcome for outcome in found if outcome.found is not None]
        outcomes += measured or [Outcome(goal.title, "", None, None)]
    return outcomes


def _judge_one(
    goal: DeviceGoal, record: Record, known: dict[tuple[str, str, str, str, int], Record]
) -> Outcome:
    op, case, variant, phase, threads = record.key
    own = known.get((op, case, variant, goal.our_phase or phase, threads))
    found = None
    if own is not None and own.ours in own.seconds:
        if goal.against == ROOFLINE:
            found = own.roofline
        elif goal.against in record.seconds:
            found = record.seconds[goal.against].seconds / own.our_seconds
    met = None if found is None else found >= goal.at_least
    return Outcome(goal.title, record.case, found, met)


def _is_for(goal: DeviceGoal, record: Record) -> bool:
    names = {*record.case.split(), record.group}
    asked = (goal.op, goal.variant, goal.phase)
    return asked == (record.op, record.variant, record.phase) and names.issuperset(goal.words)
