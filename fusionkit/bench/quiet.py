"""How busy others kept the machine while something was timed (Linux)."""

from __future__ import annotations

import os
import time
from pathlib import Path

DISTURBED = 0.2  # cores
_STAT = Path("/proc/stat")
_SHORTEST = 0.1
# user, nice, system, irq, softirq and steal of the line "cpu"; idle and iowait are left out.
_BUSY_COLUMNS = (1, 2, 3, 6, 7, 8)


def busy_seconds(stat: str) -> float:
    """Core-seconds that all processes, the kernel and other virtual machines used since the start.

    Args:
        stat: content of /proc/stat.
    """
    columns = stat.splitlines()[0].split()
    ticks = sum(int(columns[i]) for i in _BUSY_COLUMNS)
    return ticks / os.sysconf("SC_CLK_TCK")


class OthersMeter:
    """Cores that other processes used since the meter was made."""

    def __init__(self) -> None:
        self._known = _STAT.exists()
        self._busy = busy_seconds(_STAT.read_text()) if self._known else 0.0
        self._own, self._start = time.process_time(), time.perf_counter()

    def cores(self) -> float | None:
        """0 for a quiet machine; None where the system does not tell, or 0.1 s are not over.

        The system counts in ticks (10 ms), too coarse for shorter times.
        """
        elapsed = time.perf_counter() - self._start
        if not self._known or elapsed < _SHORTEST:
            return None
        busy = busy_seconds(_STAT.read_text()) - self._busy
        own = time.process_time() - self._own
        return max(0.0, busy - own) / elapsed
