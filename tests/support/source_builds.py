"""Calls of the build backend on a copy of the source tree, with compilers that may not be there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NO_COMPILER = {"CXX": "/nonexistent/c++"}


def copy_source(folder: Path) -> Path:
    """A copy of the source tree, so that builds leave this one alone."""
    junk = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    for name in ("csrc", "fusionkit", "plugins"):
        shutil.copytree(ROOT / name, folder / name, ignore=junk)
    for name in ("setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build(source: Path, what: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Call a hook of the build backend, with an import of torch or pybind11 being an error."""
    program = f"""
import sys
sys.modules["torch"] = sys.modules["pybind11"] = None
from setuptools import build_meta
print("result:", build_meta.{what})
"""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=source,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def accepting_compiler(folder: Path) -> str:
    """The path of what takes everything for a C++ program."""
    return script(folder / "c++", "exit 0")


def script(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)
