"""What the machine can do at best, measured, and how near to it a case comes.

The roofline (Williams et al. 2009) of a case is the longer of two times: its floating-point
operations at the speed of a large matrix product, and its bytes at the speed of a copy of as many
bytes. Data that stay in the first-level cache can beat it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fusionkit.bench.case import Work
from fusionkit.bench.quiet import DISTURBED, OthersMeter

_GEMM_SIZE = 1024
_MEMORY_BYTES = 256 * 2**20
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_USUAL_CACHES = {2: 2**20, 3: 32 * 2**20}


@dataclass(frozen=True)
class Ceilings:
    """Best speeds with a number of threads.

    Args:
        gflops: 10^9 operations a second of `torch.mm`, 1024^3 in float32.
        gbytes: 10^9 bytes a second, read and written, of a copy; ``l2``, ``l3`` or ``memory`` by
            where both arrays fit.
        capacity: bytes that fit into all level-2 caches in use (``l2``), and into level 3.
        others: cores that other processes used meanwhile, above 0.2 only if no repeat was quiet;
            None where the system does not tell.
    """

    threads: int
    gflops: float
    gbytes: Mapping[str, float]
    capacity: Mapping[str, int]
    others: float | None = None

    def seconds(self, work: Work) -> float:
        """The roofline: no less time can be expected for ``work``."""
        return max(work.flops / self.gflops, work.bytes / self.gbytes[self.level(work)]) * 1e-9

    def level(self, work: Work) -> str:
        """Where the bytes of ``work`` fit."""
        for name, capacity in self.capacity.items():
            if work.bytes <= capacity:
                return name
        return "memory"

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)


def measure_ceilings(threads: int, seconds: float = 0.5, repeats: int = 3) -> Ceilings:
    """Measure with ``threads`` threads, about ``seconds`` for each number.

    While others use the machine, up to ``repeats`` more times; the best of each number counts.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        best = _measure_once(threads, seconds)
        for _ in range(repeats):
            if best.others is None or best.others <= DISTURBED:
                break
            best = _best_of(best, _measure_once(threads, seconds))
        return best
    finally:
        torch.set_num_threads(before)


def _measure_once(threads: int, seconds: float) -> Ceilings:
    capacity = {"l2": threads * cache_bytes(2), "l3": cache_bytes(3)}
    sizes = {name: size // 2 for name, size in capacity.items()} | {"memory": _MEMORY_BYTES}
    meter = OthersMeter()
    return Ceilings(
        threads,
        _gemm_gflops(seconds),
        {name: _copy_gbytes(size, seconds) for name, size in sizes.items()},
        capacity,
        meter.cores(),
    )


def _best_of(one: Ceilings, other: Ceilings) -> Ceilings:
    """The better of each speed; ``others`` of the later measurement."""
    speeds = {name: max(speed, other.gbytes[name]) for name, speed in one.gbytes.items()}
    return replace(other, gflops=max(one.gflops, other.gflops), gbytes=speeds)


def cache_bytes(level: int, folder: Path = _CACHES) -> int:
    """Size of one cache of a level as Linux tells it, else a usual one."""
    for index in folder.glob("index*"):
        if (index / "level").read_text().strip() == str(level):
            size = (index / "size").read_text().strip()
            units = {"K": 2**10, "M": 2**20}
            return int(size.rstrip("KM")) * units.get(size[-1], 1)
    return _USUAL_CACHES[level]


def _gemm_gflops(seconds: float) -> float:
    a, b = torch.randn(2, _GEMM_SIZE, _GEMM_SIZE).unbind()
    out = torch.empty_like(a)
    return 2e-9 * _GEMM_SIZE**3 / _fastest(lambda: torch.mm(a, b, out=out), seconds)


def _copy_gbytes(size: int, seconds: float) -> float:
    """``size`` bytes in all: half of them are read, half written."""
    source = torch.ones(size // 8)
    target = torch.empty_like(source)
    return 1e-9 * 8 * len(source) / _fastest(lambda: target.copy_(source), seconds)


def _fastest(run: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest call, of at least one."""
    run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)
