"""Runs the cases of a suite: check, then time, at each number of threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from fusionkit.bench.case import Case, Contender, NotAvailableError, Suite, Task
from fusionkit.bench.ceilings import Ceilings
from fusionkit.bench.compiled import forget_compiled
from fusionkit.bench.correctness import Truth, prepare_checked
from fusionkit.bench.record import Record
from fusionkit.bench.timing import Plan, time_interleaved


def run_suite(
    suite: Suite,
    ceilings: Mapping[int, Ceilings],
    plan: Plan,
    *,
    quick: bool = False,
    on_start: Callable[[str], None] = lambda what: None,
) -> list[Record]:
    """Records of all cases, in their order, for every number of threads in ``ceilings``.

    Args:
        ceilings: number of threads -> what the machine can do with them.
        quick: only the quick cases, and no contender that takes long to start.
        on_start: is told what is measured next.

    Raises:
        CheckFailedError: a contender gives a wrong result; then no time of this suite counts.
    """
    records = []
    before = torch.get_num_threads()
    try:
        for case in suite.cases:
            if quick and not case.quick:
                continue
            truth = Truth(case)
            for threads, ceiling in ceilings.items():
                torch.set_num_threads(threads)
                for phase in case.phases:
                    on_start(f"{suite.name}: {case.title}, {phase}, {threads} threads")
                    records.append(_measure(suite.name, truth, phase, ceiling, plan, quick))
    finally:
        torch.set_num_threads(before)
    return records


def _measure(
    op: str, truth: Truth, phase: str, ceiling: Ceilings, plan: Plan, quick: bool
) -> Record:
    case = truth.case
    forget_compiled()
    tasks: dict[str, Task] = {}
    errors: dict[str, float] = {}
    left_out: dict[str, str] = {}
    for contender in case.contenders:
        if quick and contender.slow_start:
            left_out[contender.name] = "left out by --quick"
            continue
        try:
            tasks[contender.name], check = prepare_checked(contender, phase, truth)
        except NotAvailableError as reason:
            left_out[contender.name] = str(reason)
            continue
        if check is not None:
            errors[contender.name] = check.share
    seconds = time_interleaved({name: task.run for name, task in tasks.items()}, plan)
    ours = case.ours.name
    work = case.work[phase]
    return Record(
        op=op,
        case=case.name,
        group=case.group,
        variant=case.variant,
        phase=phase,
        threads=ceiling.threads,
        ours=ours,
        seconds=seconds,
        comparable=tuple(c.name for c in _comparable(case) if c.name in seconds),
        left_out=left_out,
        errors=errors,
        flops=None if work is None else work.flops,
        bytes=None if work is None else work.bytes,
        roofline=None if work is None else ceiling.seconds(work) / seconds[ours].seconds,
    )


def _comparable(case: Case) -> list[Contender]:
    return [c for c in case.contenders if c.role == "torch" and not c.not_comparable]
