"""Checks of the arguments of `cross_attention` that hold for every backend."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError


def check_arguments(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    dropout_p: float,
    seed: int | Tensor | None,
    bias: Tensor | None,
) -> None:
    """Raise DataError or ConfigError with the name of the first argument that does not fit."""
    _check_tensors(query, key, value)
    batch, heads, num_queries, _ = query.shape
    num_keys = key.shape[2]
    if key_lengths is not None:
        _check_lengths("key_lengths", key_lengths, batch, num_keys, query.device)
    if query_lengths is not None:
        _check_lengths("query_lengths", query_lengths, batch, num_queries, query.device)
    if bias is not None:
        _check_bias(bias, (batch, heads, num_queries, num_keys), query.device)
    _check_dropout(dropout_p, seed)


def _check_tensors(query: Tensor, key: Tensor, value: Tensor) -> None:
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() != 4:
            raise DataError(f"{name} must be (B, H, T, D), got {_shape(x)}")
        if not x.dtype.is_floating_point:
            raise DataError(f"{name} must be floating point, got {x.dtype}; convert it first")
        if x.dtype != query.dtype:
            raise DataError(f"{name} is {x.dtype} and query {query.dtype}; give both one dtype")
        if x.device != query.device:
            raise DataError(f"{name} is on {x.device} and query on {query.device}; move one")
        if x.shape[:2] != query.shape[:2]:
            raise DataError(
                f"{name} {_shape(x)} and query {_shape(query)} differ in batch or heads (axes 0, 1)"
            )
    if query.shape[3] == 0:
        raise DataError("query must have a head dim of at least 1, got 0")
    if key.shape[3] != query.shape[3]:
        raise DataError(f"key {_shape(key)} and query {_shape(query)} differ in head dim (axis 3)")
    if value.shape[2] != key.shape[2]:
        raise DataError(f"value {_shape(value)} and key {_shape(key)} differ in steps (axis 2)")


def _check_lengths(
    name: str, lengths: Tensor, batch: int, steps: int, device: torch.device
) -> None:
    if tuple(lengths.shape) != (batch,):
        raise DataError(f"{name} must have one entry a sample, ({batch},), got {_shape(lengths)}")
    if lengths.dtype != torch.int64:
        raise DataError(f"{name} must be int64, got {lengths.dtype}; convert it with .long()")
    if lengths.device != device:
        raise DataError(f"{name} is on {lengths.device} and query on {device}; move one")
    # Reading the values would synchronise an accelerator and break a compiled graph.
    if batch and device.type == "cpu" and not torch.compiler.is_compiling():
        low, high = torch.aminmax(lengths)
        if int(low) < 0 or int(high) > steps:
            raise DataError(
                f"{name} must be in [0, {steps}], got values from {int(low)} to {int(high)}"
            )


def _check_bias(bias: Tensor, full: tuple[int, int, int, int], device: torch.device) -> None:
    if not bias.dtype.is_floating_point:
        raise DataError(
            f"bias must be floating point, got {bias.dtype}; "
            "write a mask as 0 where attention is allowed and -inf elsewhere"
        )
    if bias.device != device:
        raise DataError(f"bias is on {bias.device} and query on {device}; move one")
    trailing = full[4 - bias.dim() :] if bias.dim() <= 4 else ()
    if bias.dim() > 4 or any(n not in (1, m) for n, m in zip(bias.shape, trailing)):
        raise DataError(f"bias must broadcast to (B, H, Tq, Tk) = {full}, got {_shape(bias)}")


def _check_dropout(dropout_p: float, seed: int | Tensor | None) -> None:
    if not 0.0 <= dropout_p < 1.0:
        raise ConfigError(f"dropout_p must be in [0, 1), got {dropout_p}")
    if dropout_p > 0.0 and seed is None:
        raise ConfigError("seed is required when dropout_p > 0: an int or a 0-d int64 tensor")
    if isinstance(seed, Tensor) and (seed.dim() != 0 or seed.dtype != torch.int64):
        raise DataError(
            f"seed must be an int or a 0-d int64 tensor, got {_shape(seed)} {seed.dtype}"
        )


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
