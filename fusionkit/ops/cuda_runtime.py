"""CUDA C++ kernels (csrc/kernels/cuda): whether they can run here, and their operators.

The operators have a schema and shapes in every installation, so that they can be traced anywhere;
kernels are behind them where `fusionkit._C` was built for CUDA. With ``FUSIONKIT_CUDA_ON_CPU=1``
in the environment the tests put the same kernels behind them on the CPU, to test their numbers.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.extension import CUDA_ARCHITECTURES, ExtensionStatus, absence

NAMESPACE = "fusionkit_cuda"
"""Of the operators, as in ``torch.ops.fusionkit_cuda.gated_mask``."""

EMULATED: bool = os.environ.get("FUSIONKIT_CUDA_ON_CPU") == "1"
"""Whether the kernels run on the CPU, for tests."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)

_WITHOUT_CUDA = "the compiled extension was built without CUDA"
_REBUILD = (
    "with nvcc (CUDA 12.8 or later) and g++ run, in the folder of FusionKit's source, "
    "`FUSIONKIT_BUILD_CUDA=1 pip install --no-build-isolation --force-reinstall --no-deps .`"
)


def cuda_absence() -> str:
    """Why no CUDA kernel of FusionKit can run in this process; empty if they can."""
    if EMULATED:
        return ""
    if absence():
        return absence()
    if not CUDA_ARCHITECTURES:
        return f"{_WITHOUT_CUDA}: {_REBUILD}"
    if not torch.cuda.device_count():
        return "no CUDA device is there"
    return ""


def cuda_status() -> ExtensionStatus:
    """What `fusionkit doctor` prints about the CUDA kernels, never raises.

    >>> status = cuda_status()
    >>> status.available or bool(status.reason and status.cost and status.remedy)
    True
    """
    cost = "on a GPU, operators run on Triton kernels or on plain PyTorch"
    if absence():
        return ExtensionStatus(False, absence(), cost, _REBUILD)
    if not CUDA_ARCHITECTURES:
        return ExtensionStatus(False, _WITHOUT_CUDA, cost, _REBUILD)
    devices, why_none = importlib.import_module("fusionkit._C").cuda_devices()
    built = f"for compute capability {', '.join(CUDA_ARCHITECTURES)}; "
    seen = f"no device: {why_none}" if why_none else f"{devices} device(s)"
    return ExtensionStatus(True, built + seen, "", "")


def cuda_reasons(name: str, tensor: Tensor, seed: int | Tensor | None) -> list[str]:
    """Why the kernels cannot take an argument called ``name``, by device and dtype."""
    reasons = []
    if tensor.is_cuda:
        reasons += _device_reasons(tensor.device)
    elif not (EMULATED and tensor.is_cpu):
        reasons.append(f"{name} is on {tensor.device}, the kernel runs on CUDA devices")
    if tensor.dtype not in DTYPES:
        reasons.append(f"{name} is {tensor.dtype}, the kernel takes float32, float16 and bfloat16")
    if isinstance(seed, Tensor) and seed.device != tensor.device:
        reasons.append(f"seed is on {seed.device} and {name} on {tensor.device}")
    return reasons


def _device_reasons(device: torch.device) -> list[str]:
    # A compiled graph cannot ask the driver; where there is no code, the launch says so.
    if torch.compiler.is_compiling() or not torch.cuda.device_count():
        return []
    major, minor = _capability(device)
    if runs_on(10 * major + minor):
        return []
    return [
        f"{device} has compute capability {major}.{minor}, and the kernels were built for "
        f"{', '.join(CUDA_ARCHITECTURES)} (FUSIONKIT_CUDA_ARCHITECTURES)"
    ]


@lru_cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def runs_on(capability: int) -> bool:
    """Whether there is code for a device, by its compute capability, 90 for 9.0.

    Machine code runs on its own generation from its own capability on; the last architecture is
    there in PTX, too, which runs on everything later.
    """
    built = [int(architecture) for architecture in CUDA_ARCHITECTURES]
    same_generation = any(a // 10 == capability // 10 and a <= capability for a in built)
    return same_generation or (bool(built) and capability >= max(built))


def define(schema: str, fake: Callable[..., Any]) -> None:
    """Make ``fusionkit_cuda::NAME(...)`` an operator, behind which csrc/binding/cuda puts a kernel.

    Args:
        schema: as torch writes it, beginning with the name.
        fake: gives tensors of the right shape, for tracing.
    """
    name = f"{NAMESPACE}::{schema.partition('(')[0]}"
    torch.library.define(name, schema[schema.index("(") :])
    torch.library.register_fake(name, fake)
