"""Triton kernels: whether they can run here, and how they become operators of torch.

Importing this needs no Triton; the kernels of an operator are imported when it first runs. With
``TRITON_INTERPRET=1`` in the environment they run on the CPU, slowly, to test their numbers.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

NAMESPACE = "fusionkit_triton"
"""Of the operators, as in ``torch.ops.fusionkit_triton.gated_mask``."""

INTERPRETING: bool = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter; Triton decides once, when a kernel is defined."""

DTYPE_NAMES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""What the kernels take, by Triton's names."""
_VECTOR_BYTES = 16


class KernelBuild(NamedTuple):
    """A kernel as the package launches it, to be compiled ahead of time for any device.

    Args:
        name: of the kernel and its constants. kernel: from `triton.jit`.
        signature: argument -> its type as Triton writes it, or a tuple of types.
        constants: argument -> value. num_warps: of a program.
        num_stages: of its loops.
    """

    name: str
    kernel: Any
    signature: dict[str, Any]
    constants: dict[str, Any]
    num_warps: int
    num_stages: int = 3


def triton_absence() -> str:
    """Why no Triton kernel can run in this process; empty if they can."""
    if find_spec("triton") is None:
        return "triton is not installed: pip install triton"
    if not INTERPRETING and not torch.cuda.device_count():
        return "no CUDA device is there"
    return ""


def triton_reasons(name: str, tensor: Tensor, seed: int | Tensor | None) -> list[str]:
    """Why the kernels cannot take an argument called ``name``, by device and dtype."""
    reasons = []
    if not tensor.is_cuda and not (INTERPRETING and tensor.is_cpu):
        reasons.append(f"{name} is on {tensor.device}, the kernel runs on CUDA devices")
    if tensor.dtype not in DTYPE_NAMES.values():
        reasons.append(f"{name} is {tensor.dtype}, the kernel takes float32, float16 and bfloat16")
    if isinstance(seed, Tensor) and seed.device != tensor.device:
        reasons.append(f"seed is on {seed.device} and {name} on {tensor.device}")
    return reasons


def vector_of(dtype: torch.dtype) -> int:
    """Elements that a thread reads at once, at most."""
    return _VECTOR_BYTES // dtype.itemsize


def unit_of(dtype: torch.dtype, *numbers: int) -> int:
    """The largest power of 2 that divides all of them and is no more than a vector.

    Kernels take such numbers in units, and the unit as a constant: where the compiler sees the
    factor it reads several elements at once. By itself it sees multiples of 16 only.
    """
    return math.gcd(vector_of(dtype), *numbers)


def on_device_of(x: Tensor) -> AbstractContextManager[None]:
    """Launches go to the current device: that of ``x``, while this lasts."""
    guard: AbstractContextManager[None] = torch.cuda.device_of(x)  # type: ignore[no-untyped-call]
    return guard


def define(schema: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Make ``fusionkit_triton::NAME(...)`` an operator.

    Args:
        schema: as torch writes it, beginning with the name.
        run: on real tensors. fake: gives tensors of the right shape, for tracing.
    """
    name = f"{NAMESPACE}::{schema.partition('(')[0]}"
    torch.library.define(name, schema[schema.index("(") :])
    devices = ("cuda", "cpu") if INTERPRETING else ("cuda",)
    torch.library.impl(name, devices, run)
    torch.library.register_fake(name, fake)
