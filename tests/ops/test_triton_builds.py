"""Every Triton kernel compiles for the GPUs that it is for, without a GPU, and spills nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

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
        assert kernel["stack"] == 0, kernel
        assert kernel["shared"] <= shared * 1024, kernel
        assert 0 < kernel["registers"] <= registers, kernel
