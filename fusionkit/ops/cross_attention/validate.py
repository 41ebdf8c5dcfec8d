"""Checks of the arguments of `cross_attention` that hold for every backend, or for all kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionkit.errors import DataError
from fusionkit.ops.arguments import check_dropout, check_lengths


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
        check_lengths("key_lengths", key_lengths, "query", query, num_keys)
    if query_lengths is not None:
        check_lengths("query_lengths", query_lengths, "query", query, num_queries)
    if bias is not None:
        _check_bias(bias, (batch, heads, num_queries, num_keys), query.device)
    check_dropout(dropout_p, seed)


def kernel_reasons(
    query: Tensor, value: Tensor, bias: Tensor | None, return_weights: bool, max_head_dim: int
) -> list[str]:
    """Why a compiled kernel, whichever it is, cannot take these arguments."""
    reasons = []
    if query.shape[3] > max_head_dim or value.shape[3] > max_head_dim:
        reasons.append(
            f"head dims {query.shape[3]} and {value.shape[3]}, the kernel takes 1 to {max_head_dim}"
        )
    if return_weights:
        reasons.append("return_weights: the kernel never has the weights as one tensor")
    if bias is not None and bias.dtype == torch.float64:
        reasons.append("bias is float64, the kernel computes in float32")
    return reasons


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


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
