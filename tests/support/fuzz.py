"""How many random cases the fuzz suites try, over all operators together.

``FUSIONKIT_FUZZ_CASES``: 2000 unless it is set; `make fuzz` sets more, `make sanitize` fewer.
"""

from __future__ import annotations

import os

DEFAULT_CASES = 2000
BLOCK = 100


def blocks(share: float) -> list[range]:
    """Seeds of one operator's cases, each range for one test, so that a failure is found soon.

    Args:
        share: the operator's part of all cases, in (0, 1]; all operators' shares sum to 1.

    Raises:
        ValueError: ``FUSIONKIT_FUZZ_CASES`` is not a whole number from 1.
    """
    asked = os.environ.get("FUSIONKIT_FUZZ_CASES") or str(DEFAULT_CASES)
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"FUSIONKIT_FUZZ_CASES={asked}: must be a whole number from 1")
    cases = max(1, round(share * int(asked)))
    return [range(first, min(first + BLOCK, cases)) for first in range(0, cases, BLOCK)]
