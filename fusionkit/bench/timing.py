"""Times of several contenders that take turns in one process, on a machine that others share.

Rounds A B C A B C ...: a slow phase of the machine hits all of them. One turn is a block of calls;
a block during which others used more than 0.2 cores is repeated, and dropped where enough quiet
ones are left.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fusionkit.bench.quiet import DISTURBED, OthersMeter

_MOST_CALLS = 100_000
_SLOW = 0.3  # seconds a call


@dataclass(frozen=True)
class Plan:
    """How long to measure.

    Args:
        rounds: turns of each contender; ``slow_rounds`` where a call takes over 0.3 s.
        block_seconds: length of one turn. repeats: of a disturbed turn.
    """

    rounds: int = 7
    slow_rounds: int = 3
    block_seconds: float = 0.15
    repeats: int = 3


QUICK = Plan(rounds=2, slow_rounds=1, block_seconds=0.004, repeats=0)


@dataclass(frozen=True)
class Block:
    """One turn: the median seconds of a call, and the cores that others used meanwhile."""

    seconds: float
    others: float | None

    @property
    def quiet(self) -> bool:
        """Whether others left the machine alone, as far as the system tells."""
        return self.others is None or self.others <= DISTURBED


@dataclass(frozen=True)
class Timing:
    """Seconds of a call.

    Args:
        seconds: median of the best block. median: over blocks.
        blocks: how many counted. noisy: none was quiet, so disturbed ones counted.
    """

    seconds: float
    median: float
    blocks: int
    noisy: bool


def summarize(blocks: list[Block]) -> Timing:
    """From the quiet blocks, or from all if none was.

    >>> summarize([Block(2.0, 0.0), Block(3.0, 0.1), Block(1.0, 0.9)])
    Timing(seconds=2.0, median=2.5, blocks=2, noisy=False)
    """
    quiet = [block.seconds for block in blocks if block.quiet]
    seconds = quiet or [block.seconds for block in blocks]
    return Timing(min(seconds), statistics.median(seconds), len(seconds), not quiet)


def time_interleaved(runs: Mapping[str, Callable[[], object]], plan: Plan) -> dict[str, Timing]:
    """Name -> timing of what each function does."""
    seconds = {name: _warm_up(run) for name, run in runs.items()}
    blocks: dict[str, list[Block]] = {name: [] for name in runs}
    for turn in range(plan.rounds):
        for name, run in runs.items():
            if turn < plan.slow_rounds or seconds[name] < _SLOW:
                calls = max(1, min(_MOST_CALLS, round(plan.block_seconds / seconds[name])))
                blocks[name] += _turn(run, calls, plan.repeats)
    return {name: summarize(found) for name, found in blocks.items()}


def _turn(run: Callable[[], object], calls: int, repeats: int) -> list[Block]:
    """Blocks up to the first quiet one."""
    blocks = []
    for _ in range(repeats + 1):
        blocks.append(_block(run, calls))
        if blocks[-1].quiet:
            break
    return blocks


def _block(run: Callable[[], object], calls: int) -> Block:
    run()  # the contender before this one has left its own data in the caches
    collecting = gc.isenabled()
    gc.disable()
    try:
        meter = OthersMeter()
        times = [_seconds(run) for _ in range(calls)]
        return Block(statistics.median(times), meter.cores())
    finally:
        if collecting:
            gc.enable()


def _warm_up(run: Callable[[], object]) -> float:
    """Roughly, the seconds of a call."""
    run()
    return min(_seconds(run), _seconds(run))


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
