"""What a time on a GPU means nothing without: the device, the versions, and two ceilings."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benches.gpu.clock import Schedule, clock_of, time_in_turns
from benches.gpu.rotation import Repeated
from benches.gpu.setting import SHORT_NAMES
from fusionkit.bench.ceilings import Ceilings
from fusionkit.bench.machine import machine_facts
from fusionkit.ops import available_backends

_SMI = "name,driver_version,memory.total,clocks.max.sm,clocks.max.memory,clocks.sm,power.limit"
_COPY_BYTES, _GEMM_SIZE = 2**31, 8192
_DRY_COPY_BYTES, _DRY_GEMM_SIZE = 2**16, 32


def device_facts(device: torch.device) -> dict[str, Any]:
    """JSON-ready facts of machine and device; no host name, no paths."""
    facts = machine_facts()
    for package in ("triton", "xformers", "pydantic", "omegaconf", "lightning-fabric"):
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    facts["nvcc"] = _line("nvcc", "--version", containing="release")
    facts["device"] = "CPU"
    if device.type == "cuda":
        has = torch.cuda.get_device_properties(device)
        facts |= {
            "device": has.name,
            "capability": f"{has.major}.{has.minor}",
            "multiprocessors": has.multi_processor_count,
            "memory_bytes": has.total_memory,
            "l2_bytes": has.L2_cache_size,
            "shared_bytes": has.shared_memory_per_multiprocessor,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nvidia-smi": _line("nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader"),
        }
    return facts


def measure(device: torch.device, *, dry: bool) -> dict[str, Ceilings]:
    """Dtype -> speeds of a large copy (read and written) and of a large matrix product."""
    copy_bytes = _DRY_COPY_BYTES if dry else _COPY_BYTES
    source = torch.ones(copy_bytes // 8, device=device)
    target = torch.empty_like(source)
    copied = _seconds(lambda: target.copy_(source), device)
    gbytes = {"memory": 1e-9 * 8 * len(source) / copied}
    found = {}
    for dtype in SHORT_NAMES:
        size = _DRY_GEMM_SIZE if dry else _GEMM_SIZE
        a, b = torch.randn(2, size, size, device=device).to(dtype).unbind()
        seconds = _seconds(partial(torch.mm, a, b), device)
        ceiling = Ceilings(torch.get_num_threads(), 2e-9 * size**3 / seconds, gbytes, {})
        found[SHORT_NAMES[dtype]] = ceiling
    return found


def backend_lines() -> list[str]:
    """One line for each backend of each operator: whether it can run here, and why not."""
    return [
        f"{op}: {backend.name}: {backend.unavailable or 'can run'}"
        for op, backends in available_backends().items()
        for backend in backends
    ]


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    work = {"it": Repeated(run, 1)}
    return time_in_turns(work, clock_of(device), Schedule(block_seconds=0.02))["it"].seconds


def _line(*command: str, containing: str = "") -> str:
    """The first line of a command's output with these words; why there is none, in brackets."""
    if shutil.which(command[0]) is None:
        return "(not there)"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.strip() for line in done.stdout.splitlines() if containing in line]
    return lines[0] if lines else f"(exit code {done.returncode})"


def main() -> None:
    """Write the facts to a file, and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry", action="store_true", help="tiny sizes")
    parser.add_argument("--file", type=Path, required=True)
    asked = parser.parse_args()
    device = torch.device(asked.device)
    content = {
        "machine": device_facts(device),
        "ceilings": {n: c.to_json() for n, c in measure(device, dry=asked.dry).items()},
    }
    asked.file.write_text(json.dumps(content, indent=1) + "\n")
    for name, value in content["machine"].items():
        print(f"{name}: {value}")
    for name, ceiling in content["ceilings"].items():
        print(f"{name}: {1e-3 * ceiling['gflops']:.4g} TFLOP/s (product of matrices)")
    print(f"copy, read and written: {ceiling['gbytes']['memory']:.4g} GB/s")


if __name__ == "__main__":
    main()
