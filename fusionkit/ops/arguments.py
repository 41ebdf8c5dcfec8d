"""What several operators ask of their arguments: lengths, dropout and its seed, autocast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError


def check_lengths(name: str, lengths: Tensor, like_name: str, like: Tensor, steps: int) -> None:
    """Raise unless ``lengths`` is (B,) int64 in [0, steps], beside ``like`` (B, ...).

    The values are looked at on the CPU only and not inside a compiled graph.

    Raises:
        DataError: names ``name`` and what does not fit.
    """
    batch, device = like.shape[0], like.device
    if lengths.dim() != 1 or lengths.shape[0] != batch:
        raise DataError(
            f"{name} must have one entry a sample, ({batch},), got {tuple(lengths.shape)}"
        )
    if lengths.dtype != torch.int64:
        raise DataError(f"{name} must be int64, got {lengths.dtype}; convert it with .long()")
    if lengths.device != device:
        raise DataError(f"{name} is on {lengths.device} and {like_name} on {device}; move one")
    # Reading the values would synchronise an accelerator and break a compiled graph.
    if lengths.is_cpu and not torch.compiler.is_compiling() and batch:
        low, high = (int(value) for value in torch.aminmax(lengths))
        if low < 0 or high > steps:
            raise DataError(f"{name} must be in [0, {steps}], got values from {low} to {high}")


def check_dropout(dropout_p: float, seed: int | Tensor | None) -> None:
    """Raise unless ``dropout_p`` is in [0, 1) and has a seed where it is above 0.

    Raises:
        ConfigError: ``dropout_p`` out of range, or no seed for it.
        DataError: the seed is neither an int of 64 bits nor a 0-d int64 tensor.
    """
    if not 0.0 <= dropout_p < 1.0:
        raise ConfigError(f"dropout_p must be in [0, 1), got {dropout_p}")
    if dropout_p > 0.0 and seed is None:
        raise ConfigError("seed is required when dropout_p > 0: an int or a 0-d int64 tensor")
    if isinstance(seed, Tensor):
        if seed.dim() != 0 or seed.dtype != torch.int64:
            raise DataError(
                "seed must be an int or a 0-d int64 tensor, "
                f"got shape {tuple(seed.shape)} and {seed.dtype}"
            )
    elif seed is not None and not -(2**63) <= seed < 2**63:
        raise DataError(f"seed must fit into 64 bits, in [-2**63, 2**63), got {seed}")


def is_autocasting(tensor: Tensor) -> bool:
    """Whether autocast is on for the tensor's device."""
    if tensor.is_cpu:
        return torch.is_autocast_enabled("cpu")
    device_type = tensor.device.type
    # Asking about a device without autocast raises.
    return torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)


def transform_reasons() -> list[str]:
    """Why a compiled operator cannot run now: it has no forward-mode derivative, no batching rule.

    Without this, forward mode would silently give a derivative of zero.
    """
    # A compiled graph is traced with fake tensors, outside of the caller's transforms.
    if torch.compiler.is_compiling():
        return []
    if torch._C._are_functorch_transforms_active():
        return ["a transform of torch.func is active, the kernel has plain backward mode only"]
    if torch.autograd.forward_ad._current_level >= 0:
        return ["forward-mode differentiation is active, the kernel has backward mode only"]
    return []


def as_tensor(seed: int | Tensor | None) -> Tensor:
    """A seed that `check_dropout` let pass for ``dropout_p > 0``, as the kernels take it."""
    if isinstance(seed, Tensor):
        return seed
    assert seed is not None
    return torch.scalar_tensor(seed, dtype=torch.int64)


def seed_on(seed: int | Tensor | None, device: torch.device) -> Tensor:
    """A seed where the kernels read it; writing a number there does not wait for the device."""
    if isinstance(seed, Tensor):
        return seed
    assert seed is not None
    return torch.full((), seed, dtype=torch.int64, device=device)


T = TypeVar("T", Tensor, "Tensor | None")


def apart(tensors: Sequence[T]) -> list[T]:
    """The tensors, with views for those that came before, in a compiled graph only.

    Dynamo refuses an `autograd.Function` that gets one tensor twice.
    """
    if not torch.compiler.is_compiling():
        return list(tensors)
    return [
        x.view_as(x) if x is not None and any(x is before for before in tensors[:i]) else x
        for i, x in enumerate(tensors)
    ]
