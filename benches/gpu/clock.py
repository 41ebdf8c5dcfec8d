"""Times of work on a device: by its own events, by replaying a CUDA graph, or by the host's clock.

Events around calls from Python tell what a program waits for, the work of the host included; a
graph's replay tells what the device alone takes. Contenders take turns, and the median counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benches.gpu.rotation import Repeated
from fusionkit.bench.case import NotAvailableError
from fusionkit.bench.timing import Timing

Clock = Callable[[Repeated, int], float]
_SPREAD = 0.2


class BrokenDeviceError(RuntimeError):
    """Nothing that follows in this process can be trusted."""


@dataclass(frozen=True)
class Schedule:
    """Args: rounds: turns of each contender. block_seconds: of one turn, at least one run."""

    rounds: int = 5
    block_seconds: float = 0.003


def by_events(work: Repeated, runs: int) -> float:
    """Seconds of a call, from events on the device before and after ``runs`` runs."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(runs):
        work.run()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds * 1e-3 / (runs * work.calls)


def by_host(work: Repeated, runs: int) -> float:
    """Seconds of a call on the CPU."""
    start = time.perf_counter()
    for _ in range(runs):
        work.run()
    return (time.perf_counter() - start) / (runs * work.calls)


def clock_of(device: torch.device) -> Clock:
    """Events on CUDA devices, else the host's clock."""
    return by_events if device.type == "cuda" else by_host


def captured(work: Repeated) -> Repeated:
    """The same work as the replay of one CUDA graph.

    Raises:
        NotAvailableError: it cannot be captured, with the reason.
        BrokenDeviceError: trying to has left the process unable to go on.
    """
    _run_beside(work)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work.run()
    except RuntimeError as error:
        # Ending a broken capture raises as well, and hides what broke it.
        reason = str(error.__context__ or error).strip().partition("\n")[0]
        _check_device(reason)
        raise NotAvailableError(f"cannot be captured: {reason}") from error
    graph.replay()
    torch.cuda.synchronize()
    return Repeated(graph.replay, work.calls)


def _run_beside(work: Repeated) -> None:
    """Once on a side stream, as capturing asks for, with an error where the host would wait.

    Found here it is a plain error; found while capturing it can spoil torch's generator.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.stream(side):
            work.run()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise NotAvailableError(f"cannot be captured: {reason}") from error
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()


def _check_device(reason: str) -> None:
    """Dropout draws from the generator that a failed capture may have left behind as capturing."""
    try:
        torch.nn.functional.dropout(torch.ones(8, device="cuda"))
        torch.cuda.synchronize()
    except RuntimeError as error:
        raise BrokenDeviceError(f"a failed capture broke the process: {reason}") from error


def time_in_turns(
    works: Mapping[str, Repeated],
    clock: Clock,
    schedule: Schedule,
    mark: Callable[[str], None] = lambda name: None,
) -> dict[str, Timing]:
    """Name -> timing of a call: the median over rounds; noisy where they differ by over 20 %.

    Args:
        mark: is told the name before its turn.
    """
    runs: dict[str, int] = {}
    for name, work in works.items():
        mark(name)
        clock(work, 1)
        seconds = clock(work, 1) * work.calls
        runs[name] = max(1, min(10_000, round(schedule.block_seconds / max(seconds, 1e-9))))
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(schedule.rounds):
        for name, work in works.items():
            mark(name)
            found[name].append(clock(work, runs[name]))
    return {name: _summary(times) for name, times in found.items()}


def _summary(times: list[float]) -> Timing:
    middle = statistics.median(times)
    spread = (max(times) - min(times)) / middle if middle else 0.0
    return Timing(middle, middle, len(times), spread > _SPREAD)
