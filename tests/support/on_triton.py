"""Where Triton kernels run in this process: on a device, or in Triton's interpreter on the CPU."""

from __future__ import annotations

import pytest

from fusionkit.ops.triton_runtime import INTERPRETING, triton_absence

import fuzz

DEVICE = "cpu" if INTERPRETING else "cuda"
BUILDS = None if INTERPRETING else fuzz.BUILDS
"""Kernels that a fuzz may compile; the interpreter compiles nothing."""

runs = pytest.mark.skipif(
    bool(triton_absence()), reason=f"{triton_absence()}; or run with TRITON_INTERPRET=1"
)
