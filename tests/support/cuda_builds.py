"""What the CUDA kernels need of a device, as ``nvcc -Xptxas -v`` tells; it takes no device.

``python cuda_builds.py 90 gated_mask`` prints it as JSON for one compute capability, of all sources
or of those that are named; ``python cuda_builds.py --write gated_mask`` puts it into
csrc/kernels/cuda/resources.toml, for all capabilities there.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

from cuda_emulated import KERNELS, ROOT, digest, included

CAPABILITIES = ("80", "90", "100")
BUDGET = KERNELS / "resources.toml"
CACHE = ROOT / "build" / "cuda_builds"
FLAGS = ["-O3", "-std=c++17", "-cubin", "-Xptxas", "-v"]
HEAD = """\
# What each CUDA kernel may take of a device, by source and compute capability: registers of a
# thread, and bytes that it spills to memory, of its stack and of the block's static shared memory.
# Written by tests/support/cuda_builds.py --write; tests/ops/test_cuda_builds.py compares.
"""

# Kernel -> registers, spill, stack and shared.
Usage = dict[str, dict[str, int]]


def nvcc() -> list[str]:
    return shlex.split(os.environ.get("CUDACXX") or "nvcc")


def absence() -> str:
    """Why nothing can be compiled here; empty if it can."""
    missing = [name for name in (nvcc()[0], "c++filt") if shutil.which(name) is None]
    return f"needs {' and '.join(missing)}" if missing else ""


def version() -> str:
    """Of nvcc, such as 13.0: others give other numbers."""
    text = subprocess.run([*nvcc(), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"release ([\d.]+)", text)
    assert found is not None, text
    return found[1]


def sources() -> list[str]:
    """Names of the sources that have kernels, without the suffix."""
    files = sorted(KERNELS.glob("*.cu"))
    return [f.stem for f in files if any("__global__" in h.read_text() for h in included(f))]


def usage(capability: str, names: list[str]) -> dict[str, Usage]:
    """By source, what its kernels need."""
    with ThreadPoolExecutor(2) as pool:
        texts = pool.map(lambda name: _compiled(name, capability), names)
        return {name: parse(text) for name, text in zip(names, texts)}


def _compiled(name: str, capability: str) -> str:
    """What ptxas said; kept by the hash of all that went in."""
    source = KERNELS / f"{name}.cu"
    command = [*nvcc(), *FLAGS, f"-arch=sm_{capability}"]
    key = digest([version(), *command, *(file.read_text() for file in included(source))])
    kept = CACHE / f"{key}-{name}.txt"
    if not kept.exists():
        with tempfile.TemporaryDirectory() as folder:
            call = [*command, str(source), "-o", f"{folder}/cubin"]
            done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{shlex.join(call)}\n{done.stderr}")
        CACHE.mkdir(parents=True, exist_ok=True)
        kept.with_suffix(f".{os.getpid()}").write_text(done.stderr)
        kept.with_suffix(f".{os.getpid()}").rename(kept)
    return kept.read_text()


def parse(text: str) -> Usage:
    """The kernels in what ``ptxas -v`` prints."""
    found: Usage = {}
    parts = re.split(r"Compiling entry function '(\w+)'", text)[1:]
    for name, part in zip(_readable(parts[::2]), parts[1::2]):
        numbers = {
            "registers": r"Used (\d+) registers",
            "spill": r"(\d+) bytes spill stores",
            "stack": r"(\d+) bytes stack frame",
            "shared": r"(\d+) bytes smem",
        }
        matches = {key: re.search(pattern, part) for key, pattern in numbers.items()}
        found[name] = {key: int(match[1]) if match else 0 for key, match in matches.items()}
    return dict(sorted(found.items()))


def _readable(symbols: list[str]) -> list[str]:
    """``kernel<float, 1>`` for the symbol of ``void space::kernel<float, 1>(arguments)``."""
    done = subprocess.run(
        ["c++filt"], input="\n".join(symbols), capture_output=True, text=True, check=True
    )
    short = [re.sub(r"\(anonymous namespace\)::|\w+::", "", s) for s in done.stdout.splitlines()]
    return [re.sub(r"^void |\([^()]*\)$", "", name) for name in short]


def as_toml(budget: dict[str, dict[str, Usage]], compiler: str) -> str:
    lines = [HEAD, f'nvcc = "{compiler}"']
    for source, capabilities in sorted(budget.items()):
        for capability, kernels in capabilities.items():
            lines += ["", f"[{source}.{capability}]"]
            for kernel, numbers in kernels.items():
                inner = ", ".join(f"{key} = {value}" for key, value in numbers.items())
                lines.append(f'"{kernel}" = {{ {inner} }}')
    return "\n".join(lines) + "\n"


def write(names: list[str]) -> None:
    import tomllib

    found = {f"sm_{capability}": usage(capability, names) for capability in CAPABILITIES}
    known = tomllib.loads(BUDGET.read_text()) if BUDGET.exists() else {}
    known.pop("nvcc", None)
    budget = {source: kernels for source, kernels in known.items() if source in sources()}
    for name in names:
        budget[name] = {capability: kernels[name] for capability, kernels in found.items()}
    BUDGET.write_text(as_toml(budget, version()))


if __name__ == "__main__":
    what, *asked = sys.argv[1:]
    if what == "--write":
        write(asked or sources())
    else:
        print(json.dumps(usage(what, asked or sources()), indent=1))
