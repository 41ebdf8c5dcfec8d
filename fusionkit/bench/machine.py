"""Facts that a time means nothing without: processor, versions, allocator."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fusionkit._version import __version__
from fusionkit.bench.allocator import ALLOCATOR

# What has to be equal before two times may be compared.
COMPARED = ("cpu_model", "cores", "isa", "torch", "compiler", "allocator")


def machine_facts() -> dict[str, Any]:
    """JSON-ready facts; no host name, no paths."""
    import torch

    from fusionkit.ops.extension import extension_status

    return {
        "cpu_model": cpu_model(),
        "cores": usable_cores(),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "platform": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "fusionkit": __version__,
        "compiler": extension_status().reason,
        "allocator": {name: os.environ.get(name) for name in ALLOCATOR},
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """One line for each fact that keeps times of two machines from being compared."""
    return [
        f"{name}: {there.get(name)} there, {here.get(name)} here"
        for name in COMPARED
        if there.get(name) != here.get(name)
    ]


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model() -> str:
    """The processor's name as Linux tells it, else what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
