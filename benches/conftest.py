"""Benchmarks run with fixed allocator settings, and their JSON says on what they were measured.

glibc by default gives large temporaries back to the system, and every call then pays for page
faults: the same chain of operators takes one to three times as long, by the state of the heap.
pytest is started anew with the settings below if they are missing, before torch is imported.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
    "MALLOC_TOP_PAD_": "67108864",
}


def pytest_configure(config: pytest.Config) -> None:
    if platform.libc_ver()[0] != "glibc" or ALLOCATOR.items() <= os.environ.items():
        return
    if "torch" in sys.modules:
        settings = " ".join(f"{name}={value}" for name, value in ALLOCATOR.items())
        raise pytest.UsageError(f"torch is imported already; start pytest with {settings}")
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **ALLOCATOR})


def pytest_report_header() -> list[str]:
    return ["allocator: " + " ".join(f"{k}={os.environ.get(k)}" for k in ALLOCATOR)]


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    import torch

    from fusionkit import __version__
    from fusionkit.ops.extension import extension_status

    machine_info.update(
        node="",
        cpu_model=_cpu_model(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        fusionkit=__version__,
        extension=extension_status().reason,
        allocator={name: os.environ.get(name) for name in ALLOCATOR},
    )


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    """The version, instead of what a repository around the files may say."""
    from fusionkit import __version__

    return {"id": __version__, "project": "fusionkit", "dirty": False, "branch": ""}


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        return platform.processor()
    names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    return names[0].split(":", 1)[1].strip() if names else platform.machine()
