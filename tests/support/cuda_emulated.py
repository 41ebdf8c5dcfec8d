"""Builds the CUDA kernels for the CPU, with the emulator in ``cuda_on_cpu``, by any C++ compiler.

Objects are kept in ``build/cuda_on_cpu``, by the hash of all that went into them.
``FUSIONKIT_CUDA_SOURCES=gated_mask*,lstm*`` in the environment builds some of the kernels only.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.cpp_extension import include_paths, library_paths

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = Path(__file__).resolve().parent / "cuda_on_cpu"
KERNELS = ROOT / "csrc" / "kernels" / "cuda"
BINDINGS = ROOT / "csrc" / "binding" / "cuda"
CACHE = ROOT / "build" / "cuda_on_cpu"
FLAGS = [
    *("-x", "c++", "-std=c++17", "-O2", "-g0", "-fPIC", "-fvisibility=hidden"),
    *("-Wall", "-Wextra", "-Wno-unknown-pragmas", "-DFUSIONKIT_CUDA_ON_CPU", f"-I{EMULATOR}"),
    # The emulator leaves the stack of one fiber by longjmp for that of another.
    "-U_FORTIFY_SOURCE",
]
TORCH_TARGET = "-DTORCH_TARGET_VERSION=0x020a000000000000"


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX") or "g++")


def load() -> None:
    """Register the operators of ``torch.ops.fusionkit_cuda`` for tensors on the CPU, once."""
    torch.ops.load_library(str(library()))  # type: ignore[no-untyped-call]


def library() -> Path:
    """The kernels and their bindings as one library."""
    asked = os.environ.get("FUSIONKIT_CUDA_SOURCES", "*").split(",")
    includes = [*(f"-isystem{path}" for path in include_paths()), TORCH_TARGET]
    sources = [(source, FLAGS) for source in _matching(KERNELS, asked, ".cu")]
    sources += [(source, FLAGS + includes) for source in _matching(BINDINGS, asked, ".cpp")]
    link = [*(f"-L{path}" for path in library_paths()), "-ltorch_cpu"]
    return _built("operators.so", sources, ["-shared", *link])


def program(source: Path) -> Path:
    """One source with a main function, as a program."""
    return _built(source.stem, [(source, FLAGS)], [])


def _matching(folder: Path, patterns: list[str], suffix: str) -> list[Path]:
    patterns = [f"{pattern}{suffix}" for pattern in [*patterns, "runtime"]]
    return sorted({source for pattern in patterns for source in folder.glob(pattern)})


def _built(name: str, sources: list[tuple[Path, list[str]]], link: list[str]) -> Path:
    with _alone(), ThreadPoolExecutor(2) as pool:
        objects = [str(found) for found in pool.map(lambda source: _object(*source), sources)]
        target = CACHE / f"{digest([*objects, *link])}-{name}"
        if not target.exists():
            _run([*compiler(), *objects, *link], target)
    return target


def _object(source: Path, flags: list[str]) -> Path:
    texts = [file.read_text() for file in included(source, [EMULATOR])]
    hashed = digest([*compiler(), *flags, torch.__version__, *texts])
    target = CACHE / f"{hashed}-{source.stem}.o"
    if not target.exists():
        _run([*compiler(), *flags, "-c", str(source)], target)
    return target


def included(source: Path, folders: Sequence[Path] = ()) -> list[Path]:
    """The source and the project's files that it includes, in turn."""
    found = {source.resolve(): None}
    for file in (queue := list(found)):
        for name in re.findall(r'#include "(.*)"', file.read_text()):
            for folder in (file.parent, *folders):
                header = (folder / name).resolve()
                if header.is_file() and header not in found:
                    found[header] = None
                    queue.append(header)
    return list(found)


def _run(command: list[str], target: Path) -> None:
    unfinished = target.with_suffix(".unfinished")
    done = subprocess.run([*command, "-o", str(unfinished)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stderr}")
    unfinished.rename(target)


def digest(texts: list[str]) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


@contextmanager
def _alone() -> Iterator[None]:
    """Keeps the test processes from compiling the same at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
