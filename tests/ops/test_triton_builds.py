"""Every Triton kernel compiles for the GPUs that it is for, without a GPU, and spills nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

# Shared memory that a program may have without asking for more, on every one of them.
MAX_SHARED = 48 * 1024
MAX_REGISTERS = 128


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton: pip install triton==3.7.1")
@pytest.mark.parametrize("capability", ["80", "90", "100"])
def test_every_kernel_compiles_within_its_budget(capability: str) -> None:
    script = Path(__file__).parents[1] / "support" / "triton_builds.py"
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(script), capability], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) >= 18
    for kernel in found:
        assert kernel["stack"] == 0, kernel
        assert kernel["shared"] <= MAX_SHARED, kernel
        assert 0 < kernel["registers"] <= MAX_REGISTERS, kernel
