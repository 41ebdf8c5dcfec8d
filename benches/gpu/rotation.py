"""Several copies of one piece of work, each with memory of its own, run one after the other.

Inputs that were just used lie in the level-2 cache; with copies that together are larger than it,
every call reads its own from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusionkit.bench.case import Contender, Inputs, Task

MOST_COPIES = 32
_CACHES = 2.0


@dataclass(frozen=True)
class Repeated:
    """Args: run: the work, ``calls`` times."""

    run: Callable[[], object]
    calls: int


def number_of_copies(inputs: Inputs, cache_bytes: int) -> int:
    """Copies that together take twice the level-2 cache: 2 to 32.

    >>> x = torch.zeros(2**20)
    >>> number_of_copies(Inputs({"x": x}), 8 * 2**20), number_of_copies(Inputs({"x": x}), 0)
    (4, 2)
    """
    size = sum(x.numel() * x.element_size() for x in inputs.tensors.values())
    return max(2, min(MOST_COPIES, round(_CACHES * cache_bytes / max(size, 1))))


def rotation(
    first: Task, contender: Contender, inputs: Inputs, phase: str, copies: int
) -> Repeated:
    """``first`` and more like it as one run, all of them warmed up."""
    tasks = [first, *(contender.prepare(inputs, phase) for _ in range(copies - 1))]
    repeated = Repeated(lambda: _run_all(tasks), len(tasks))
    repeated.run()
    return repeated


def _run_all(tasks: Sequence[Task]) -> None:
    for task in tasks:
        task.run()
