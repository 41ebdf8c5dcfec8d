"""The allocator's settings, without which a ratio of times may be one of page faults.

glibc by default gives large temporaries back to the system, and every call then pays for page
faults: the same chain of operators takes one to three times as long, by the state of the heap.
The settings are read when a process starts, so a process without them starts anew.
"""

from __future__ import annotations

import os
import platform
import sys

from fusionkit.errors import MisuseError

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}


def settings_missing() -> bool:
    """Whether this is glibc without the settings; other C libraries do not know them."""
    return platform.libc_ver()[0] == "glibc" and not ALLOCATOR.items() <= os.environ.items()


def restart_with_settings() -> None:
    """Replace the process by the same command with the settings, if they are missing.

    Raises:
        MisuseError: torch is imported already, so the process is someone else's.
    """
    if not settings_missing():
        return
    if "torch" in sys.modules:
        settings = " ".join(f"{name}={value}" for name, value in ALLOCATOR.items())
        raise MisuseError(
            f"torch is imported already, and times depend on the allocator; start with {settings}"
        )
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ALLOCATOR})


def settings_in_words() -> str:
    """One line for headers, such as ``MALLOC_TOP_PAD_=67108864 ...``."""
    return " ".join(f"{name}={os.environ.get(name, 'unset')}" for name in ALLOCATOR)
