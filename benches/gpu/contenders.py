"""Contenders from functions of tensors: plain ones, compiled ones, and ours by force."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from fusionkit.bench.case import Contender, Inputs, NotAvailableError, Task
from fusionkit.bench.differentiable import differentiable
from fusionkit.errors import FusionKitError
from fusionkit.ops import available_backends, force_backend

Function = Callable[[Mapping[str, Tensor]], Sequence[Tensor]]
Make = Callable[[Inputs], Function]
"""From the inputs of a case what maps tensors with those names to outputs."""

OURS = "fusionkit"
DEVICE_BACKENDS = {"cuda": ("cuda", "triton"), "cpu": ("cpu",)}
"""Backends with kernels of ours, by type of device."""


def contender(name: str, make: Make, **options: Any) -> Contender:
    """A contender whose gradients are those of all tensors of the inputs."""

    def prepare(inputs: Inputs, phase: str) -> Task:
        leaves = inputs.leaves()
        function = make(inputs)
        return differentiable(lambda: function(leaves), leaves, phase)

    return Contender(name, prepare, **options)


@lru_cache(maxsize=64)
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` under torch.compile for fixed shapes: one object, so that copies share it."""
    return torch.compile(function, dynamic=False, fullgraph=True)


def ours(ops: Sequence[str], make: Make, device: torch.device) -> list[Contender]:
    """What dispatch chooses, then every backend of ``ops`` with kernels for the device by force.

    Args:
        ops: names in `available_backends` that ``make`` uses. A backend that one of them lacks has
            no time, and says so.
    """
    forced = [
        contender(f"{OURS} {name}", _forced(name, ops, make), role="ours")
        for name in DEVICE_BACKENDS[device.type]
    ]
    return [contender(OURS, make, role="ours"), *forced]


def is_ours(name: str) -> bool:
    """Whether a contender is one of `ours`."""
    return name == OURS or name.startswith(f"{OURS} ")


def _forced(name: str, ops: Sequence[str], make: Make) -> Make:
    def forced(inputs: Inputs) -> Function:
        for op in ops:
            reason = why_not(op, name)
            if reason:
                raise NotAvailableError(reason)
        function = make(inputs)

        def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
            try:
                with force_backend(name):
                    return function(leaves)
            except FusionKitError as error:
                raise NotAvailableError(str(error)) from error

        return run

    return forced


def why_not(op: str, name: str) -> str:
    """Why a backend can never run an operator in this process; empty if it may."""
    for backend in available_backends().get(op, []):
        if backend.name == name:
            return backend.unavailable
    return f"{op} has no backend {name} in this version"
