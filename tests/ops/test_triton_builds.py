"""Every Triton kernel compiles for its GPUs, without a GPU, and no loop spills registers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

# By the first word of a kernel's name: registers of a thread, and shared memory of a program. Up to
# 48 KiB come without asking; Triton asks for more, of which sm_86, 89 and 120 give 99 KiB.
BUDGETS = {
    "gated_mask_forward": (128, 48),
    "gated_mask_backward": (128, 48),
    "info_nce": (128, 48),
    "segment_mean_forward": (128, 48),
    "segment_mean_backward": (128, 48),
    "segment_scale_forward": (128, 48),
    "segment_scale_backward": (128, 48),
    "attention": (255, 99),
}
STACK = 32
"""Bytes, of what the compiler puts away before a loop and reads once after it."""

# Tensors of x's size that a kernel loads and stores; the gated mask has gates on top of them.
LARGE_TENSORS = {
    "gated_mask_forward": (1, 1),
    "gated_mask_backward": (2, 1),
    "segment_mean_forward": (1, 0),
    "segment_mean_backward": (0, 1),
    "segment_scale_forward": (1, 1),
    "segment_scale_backward": (2, 1),
}
NUMBERS_OF_A_THREAD = 8


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
    kinds = [re.split(r"\W", kernel["kernel"])[0] for kernel in found]
    assert set(kinds) == BUDGETS.keys()
    for kind, kernel in zip(kinds, found):
        registers, shared = BUDGETS[kind]
        assert kernel["spills_in_loops"] == 0 and kernel["stack"] <= STACK, kernel
        assert kernel["shared"] <= shared * 1024, kernel
        assert 0 < kernel["registers"] <= registers, kernel
        if kind in LARGE_TENSORS:
            check_vectors(kind, kernel)


def check_vectors(kind: str, kernel: dict[str, Any]) -> None:
    """All but odd rows are read and written several numbers at once."""
    name = kernel["kernel"]
    size = re.search(r"size (\d+)", name)
    if "dropout" in name and size and int(size[1]) % 2:
        return
    gates = int((re.search(r"(\d) gates", name) or (0, 0))[1])
    loaded, stored = LARGE_TENSORS[kind]
    of_tensor = NUMBERS_OF_A_THREAD * (4 if "fp32" in name else 2)
    assert kernel["loaded"] >= (loaded + gates) * of_tensor, kernel
    assert kernel["stored"] >= (stored + gates * ("backward" in name)) * of_tensor, kernel
