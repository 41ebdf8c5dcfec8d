"""Where CUDA kernels run in this process: on a device, or in the tests' emulator on the CPU."""

from __future__ import annotations

import pytest

from fusionkit.ops.cuda_runtime import EMULATED

DEVICE = "cpu" if EMULATED else "cuda"
runs = pytest.mark.usefixtures("cuda_kernels")
