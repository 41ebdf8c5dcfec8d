"""How many random cases the fuzz suites try.

``FUSIONKIT_FUZZ_CASES``: 2000 unless it is set; `make fuzz` sets more, `make sanitize` fewer.
``FUSIONKIT_FUZZ_CASES_EACH`` instead gives every operator and backend that many, in small blocks
for many processes; `benches/gpu_check.sh` sets it.
"""

from __future__ import annotations

import os

DEFAULT_CASES = 2000
BLOCK = 100
BLOCK_OF_EACH = 25


def blocks(share: float) -> list[range]:
    """Seeds of one operator's cases, each range for one test, so that a failure is found soon.

    Args:
        share: the part of ``FUSIONKIT_FUZZ_CASES`` that this operator and backend get, in (0, 1];
            the slower a case, the smaller.

    Raises:
        ValueError: a variable is not a whole number from 1.
    """
    if os.environ.get("FUSIONKIT_FUZZ_CASES_EACH"):
        return _split(_number("FUSIONKIT_FUZZ_CASES_EACH", DEFAULT_CASES), BLOCK_OF_EACH)
    return _split(max(1, round(share * _number("FUSIONKIT_FUZZ_CASES", DEFAULT_CASES))), BLOCK)


def _number(variable: str, default: int) -> int:
    asked = os.environ.get(variable) or str(default)
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"{variable}={asked}: must be a whole number from 1")
    return int(asked)


def _split(cases: int, block: int) -> list[range]:
    return [range(first, min(first + block, cases)) for first in range(0, cases, block)]
