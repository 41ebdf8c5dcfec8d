"""Runs the cases of a suite on a device: every contender is checked, then all take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benches.gpu.clock import BrokenDeviceError, Schedule, captured, clock_of, time_in_turns
from benches.gpu.contenders import OURS, is_ours
from benches.gpu.journal import Journal
from benches.gpu.rotation import Repeated, number_of_copies, rotation
from fusionkit.bench.case import BOTH, FORWARD, Case, Contender, NotAvailableError, Suite
from fusionkit.bench.ceilings import Ceilings
from fusionkit.bench.compiled import forget_compiled, graphs_compiled, proven
from fusionkit.bench.correctness import CheckFailedError, Truth, prepare_checked
from fusionkit.bench.record import Record
from fusionkit.bench.timing import Timing
from fusionkit.errors import FusionKitError

GRAPH = ", graph"
"""What the name of a phase ends in where a CUDA graph was replayed."""

WRONG = "WRONG: "
STICKY = ("illegal memory access", "illegal address", "unspecified launch failure",
          "misaligned address", "illegal instruction", "device-side assert")  # fmt: skip


@dataclass(frozen=True)
class Session:
    """What all cases of a run share.

    Args:
        device, schedule: where and how long. ceilings: dtype -> best speeds, as measured.
        cache_bytes: of level 2. deadline: of `time.monotonic`, no case starts after it.
        without: contenders that ended the process before -> the case in which they did.
        compilers: whether contenders that compile for seconds take part.
    """

    device: torch.device
    schedule: Schedule
    ceilings: Mapping[str, Ceilings]
    cache_bytes: int
    deadline: float
    without: Mapping[str, str]
    compilers: bool = True


def run_suite(suite: Suite, session: Session, journal: Journal) -> None:
    """Measure what the journal does not have yet; everything found goes there."""
    known = set(journal.lines("done"))
    for what, reason in suite.left_out.items():
        journal.add("left_out", [what, reason])
    for case in suite.cases:
        if case.title in known:
            continue
        if time.monotonic() > session.deadline:
            journal.add("left_out", [f"{suite.name}: {case.title}", "no time was left"])
            continue
        try:
            truth = Truth(case)
            for phase in case.phases:
                _measure(suite.name, truth, phase, session, journal)
        # One case that cannot run here must not take the others along.
        except Exception as error:
            if _is_sticky(error):
                raise
            journal.add("left_out", [f"{suite.name}: {case.title}", _first_line(error)])
        journal.add("done", case.title)
        if session.device.type == "cuda":
            torch.cuda.empty_cache()


def warm_up(suite: Suite, session: Session, journal: Journal) -> None:
    """Compile what `run_suite` will need, so that it finds it in the caches on disk."""
    for case in suite.cases:
        inputs = case.inputs()
        for phase in case.phases:
            forget_compiled()
            for contender in case.contenders:
                late = time.monotonic() > session.deadline
                if late or (contender.slow_start and not session.compilers):
                    continue
                journal.mark(f"{contender.name}\t{case.title}")
                try:
                    contender.prepare(inputs, phase).run()
                # The measurement will say what is wrong with it.
                except Exception as error:
                    print(f"{contender.name}, {case.title}: {_first_line(error)}")


def _measure(op: str, truth: Truth, phase: str, session: Session, journal: Journal) -> None:
    case = truth.case
    forget_compiled()
    works: dict[str, Repeated] = {}
    errors: dict[str, float] = {}
    left_out: dict[str, str] = {}
    copies = number_of_copies(truth.inputs, session.cache_bytes)
    if phase not in (FORWARD, BOTH):
        copies = 1  # a training step has its own parameters, which stay where they are
    for contender in case.contenders:
        journal.mark(f"{contender.name}\t{case.title}")
        reason = _left_out(contender, session)
        if reason:
            left_out[contender.name] = reason
            continue
        try:
            before = graphs_compiled() if contender.slow_start else 0
            task, check = prepare_checked(contender, phase, truth)
            task = proven(task, before) if contender.slow_start else task
            works[contender.name] = rotation(task, contender, truth.inputs, phase, copies)
            _wait(session.device)
        except Exception as error:
            left_out[contender.name] = _why(error)
            continue
        if check is not None:
            errors[contender.name] = check.share

    def mark(name: str) -> None:
        journal.mark(f"{name}\t{case.title}")

    clock = clock_of(session.device)
    times = time_in_turns(works, clock, session.schedule, mark)
    found = _record(op, truth, phase, session, times, errors, left_out)
    journal.add("record", found.to_json())
    if session.device.type == "cuda":
        graphs, not_captured = _capture_all(works, mark)
        times = time_in_turns(graphs, clock, session.schedule, mark)
        left_out = left_out | not_captured
        found = _record(op, truth, phase + GRAPH, session, times, errors, left_out)
        journal.add("record", found.to_json())


def _wait(device: torch.device) -> None:
    """Until all work is done, so that an error is that of the contender that runs."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def _capture_all(
    works: Mapping[str, Repeated], mark: Callable[[str], None]
) -> tuple[dict[str, Repeated], dict[str, str]]:
    graphs: dict[str, Repeated] = {}
    reasons: dict[str, str] = {}
    for name, work in works.items():
        mark(name)
        try:
            graphs[name] = captured(work)
        except NotAvailableError as reason:
            reasons[name] = str(reason)
    return graphs, reasons


def _record(
    op: str,
    truth: Truth,
    phase: str,
    session: Session,
    times: Mapping[str, Timing],
    errors: Mapping[str, float],
    left_out: Mapping[str, str],
) -> Record:
    """``ours`` of the record is the fastest kernel of ours; the name says which.

    What dispatch chooses counts where no kernel has a time: it can be one of PyTorch's.
    """
    case = truth.case
    work = case.work[phase.removesuffix(GRAPH)]
    mine = [name for name in times if is_ours(name)]
    mine = [name for name in mine if name != OURS] or mine
    best = min(mine, key=lambda name: times[name].seconds, default=OURS)
    dtype = str(next(iter(truth.inputs.tensors.values())).dtype).removeprefix("torch.")
    roofline = None
    if work is not None and mine and dtype in session.ceilings:
        roofline = session.ceilings[dtype].seconds(work) / times[best].seconds
    return Record(
        op=op,
        case=case.name,
        group=case.group,
        variant=case.variant,
        phase=phase,
        threads=torch.get_num_threads(),
        ours=best,
        seconds=times,
        comparable=tuple(c.name for c in _comparable(case) if c.name in times),
        left_out=left_out,
        errors=errors,
        flops=None if work is None else work.flops,
        bytes=None if work is None else work.bytes,
        roofline=roofline,
    )


def _comparable(case: Case) -> list[Contender]:
    return [c for c in case.contenders if c.role == "torch" and not c.not_comparable]


def _left_out(contender: Contender, session: Session) -> str:
    if contender.name in session.without:
        return f"it ended the process in {session.without[contender.name]}"
    if contender.slow_start and not session.compilers:
        return "it compiles for seconds: not in a quick or dry run"
    return ""


def _why(error: Exception) -> str:
    """What stands in place of a time; what broke the device ends the process."""
    if _is_sticky(error):
        raise error
    if isinstance(error, CheckFailedError):
        return WRONG + str(error)
    return str(error) if isinstance(error, FusionKitError) else _first_line(error)


def _is_sticky(error: Exception) -> bool:
    """Whether nothing will run on the device in this process any more."""
    return isinstance(error, BrokenDeviceError) or any(words in str(error) for words in STICKY)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200] if lines else ''}"
