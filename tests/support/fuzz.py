"""How many random cases the fuzz suites try.

``FUSIONKIT_FUZZ_CASES``: 2000 unless it is set; `make fuzz` sets more, `make sanitize` fewer.
``FUSIONKIT_FUZZ_CASES_EACH`` instead gives every operator and backend that many, in small blocks
for many processes; `benches/gpu_check.sh` sets it.
"""

from __future__ import annotations

import os
from random import Random

DEFAULT_CASES = 2000
BLOCK = 100
BLOCK_OF_EACH = 25
BUILDS = 40
"""Of an operator's Triton kernels on a device, where every build takes seconds to compile."""


def blocks(share: float) -> list[range]:
    """Seeds of one operator's cases, each range for one test, so that a failure is found soon.

    Args:
        share: the part of ``FUSIONKIT_FUZZ_CASES`` that this operator and backend get, in (0, 1];
            the slower a case, the smaller.

    Raises:
        ValueError: a variable is not a whole number from 1.
    """
    if os.environ.get("FUSIONKIT_FUZZ_CASES_EACH"):
        cases = _number("FUSIONKIT_FUZZ_CASES_EACH", DEFAULT_CASES)
        count = -(-cases // BLOCK_OF_EACH)
        # Every so many-th seed: those of one build (`two_generators`) meet in few processes.
        return [range(first, cases, count) for first in range(count)]
    cases = max(1, round(share * _number("FUSIONKIT_FUZZ_CASES", DEFAULT_CASES)))
    return [range(first, min(first + BLOCK, cases)) for first in range(0, cases, BLOCK)]


def two_generators(seed: int, builds: int | None) -> tuple[Random, Random]:
    """For what a kernel is compiled for, and for all else.

    What is compiled for: precision, sizes that are constants of the kernel, optional arguments,
    whether a tensor begins at a multiple of 16 bytes. All else: numbers, and other sizes.

    Args:
        builds: distinct results of the first generator, so that kernels compile that often;
            None for one each seed, where nothing is compiled at run time.
    """
    return Random(f"build {seed if builds is None else seed % builds}"), Random(seed)


def _number(variable: str, default: int) -> int:
    asked = os.environ.get(variable) or str(default)
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"{variable}={asked}: must be a whole number from 1")
    return int(asked)
