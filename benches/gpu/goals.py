"""What the GPU kernels should reach, as data, and whether they do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benches.gpu.contenders import OURS
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
        or_chosen: what dispatch chooses may reach it instead of the fastest kernel of ours.
    """

    op: str
    words: tuple[str, ...]
    variant: str
    phase: str
    against: str
    at_least: float
    our_phase: str = ""
    or_chosen: bool = False

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
            if it was not measured. met: None then, too. by: the contender that it was found for.
    """

    title: str
    case: str
    found: float | None
    met: bool | None
    by: str = ""

    def in_words(self) -> str:
        """One line."""
        if self.found is None:
            return f"not measured  {self.title}"
        verdict = "met   " if self.met else "MISSED"
        by = "what dispatch chose" if self.by == OURS else self.by
        return f"{verdict} {self.found:5.2f}  {self.title}  [{self.case}; {by}]"


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
             variant=FULL, against=FLASH, or_chosen=True),
    *_phases((FORWARD, BOTH), 0.8, op="cross_attention", words=("D64", "2048x2048", "bfloat16"),
             variant=FULL, against=FLASH, or_chosen=True),
    *(
        # A step takes several operators: dispatch may choose the best backend for each.
        DeviceGoal("training_step", words, variant, STEP, against, at_least, our_phase, True)
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
    if own is None or own.ours not in own.seconds:
        return Outcome(goal.title, case, None, None)
    if goal.against == ROOFLINE:
        found = {} if own.roofline is None else {own.ours: own.roofline}
    else:
        names = [own.ours, OURS] if goal.or_chosen and OURS in own.seconds else [own.ours]
        theirs = record.seconds.get(goal.against)
        found = {n: theirs.seconds / own.seconds[n].seconds for n in names} if theirs else {}
    by = max(found, key=lambda name: found[name], default="")
    if not by:
        return Outcome(goal.title, case, None, None)
    return Outcome(goal.title, case, found[by], found[by] >= goal.at_least, by)


def _is_for(goal: DeviceGoal, record: Record) -> bool:
    names = {*record.case.split(), record.group}
    asked = (goal.op, goal.variant, goal.phase)
    return asked == (record.op, record.variant, record.phase) and names.issuperset(goal.words)
