"""Cross-attention on the compiled CPU kernel (csrc/kernels/cpu/attention_*_impl.h)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, as_tensor, transform_reasons
from fusionkit.ops.cross_attention.autograd import CrossAttention
from fusionkit.ops.cross_attention.masks import as_four_dimensions
from fusionkit.ops.cross_attention.sdpa import sdpa_reasons
from fusionkit.ops.cross_attention.validate import kernel_reasons
from fusionkit.ops.crossovers import crossover
from fusionkit.ops.extension import ISA, raise_if_broken

MAX_HEAD_DIM = 256
_DTYPES = (torch.float32, torch.bfloat16)
_CROSSOVER = crossover("cross_attention")
# (head dim, steps) from which on SDPA is faster at this instruction set level.
_FORWARD, _GRADIENT = (
    [
        (limits["head_dim"], limits["steps"])
        for rule, limits in _CROSSOVER.rules.items()
        if rule.startswith(f"{ISA}_") and rule.startswith(f"{ISA}_gradient_") == with_gradient
    ]
    for with_gradient in (False, True)
)


def run_cpu(
    query: Tensor,  # (B, H, Tq, D)
    key: Tensor,  # (B, H, Tk, D)
    value: Tensor,  # (B, H, Tk, Dv)
    *,
    key_lengths: Tensor | None = None,  # (B,) int64
    query_lengths: Tensor | None = None,  # (B,) int64
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    bias: Tensor | None = None,
    return_weights: bool = False,
) -> Tensor:
    """Takes the checked arguments of `cross_attention`, as far as `cpu_reasons` is empty.

    bfloat16 is computed in float32 and rounded once at the end.
    """
    dtype = query.dtype
    if dtype != torch.float32:
        query, key, value = query.float(), key.float(), value.float()
    if bias is not None:
        bias = bias.float()
    if scale is None:
        scale = 1.0 / math.sqrt(query.shape[3])
    seed = None if dropout_p == 0.0 else as_tensor(seed)
    if torch.is_grad_enabled() and (
        query.requires_grad
        or key.requires_grad
        or value.requires_grad
        or (bias is not None and bias.requires_grad)
    ):
        query, key, value = apart([query, key, value])
        key_lengths, query_lengths = apart([key_lengths, query_lengths])
        result: Tensor = CrossAttention.apply(  # type: ignore[no-untyped-call]
            "fusionkit", query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed
        )
    else:
        four = None if bias is None else as_four_dimensions(bias)
        result, _ = torch.ops.fusionkit.cross_attention.default(
            query, key, value, four, key_lengths, query_lengths, scale, dropout_p, seed
        )
    return result if dtype == torch.float32 else result.to(dtype)


def cpu_reasons(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    bias: Tensor | None = None,
    return_weights: bool = False,
) -> list[str]:
    """Why the kernel cannot take these inputs, given that it is installed."""
    raise_if_broken()
    reasons = transform_reasons()
    if query.device.type != "cpu":
        reasons.append(f"query is on {query.device}, the kernel runs on the CPU")
    if query.dtype not in _DTYPES:
        reasons.append(f"query is {query.dtype}, the kernel takes float32 and bfloat16")
    reasons += kernel_reasons(query, value, bias, return_weights, MAX_HEAD_DIM)
    if isinstance(seed, Tensor) and seed.device.type != "cpu":
        reasons.append(f"seed is on {seed.device}, the kernel runs on the CPU")
    return reasons


def cpu_slower_reasons(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    bias: Tensor | None = None,
    return_weights: bool = False,
) -> list[str]:
    """Where SDPA takes these inputs and was measured faster than the kernel."""
    needs_gradient = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad)
    steps = max(query.shape[2], key.shape[2])
    for limit, from_steps in _GRADIENT if needs_gradient else _FORWARD:
        if query.shape[3] >= limit and steps >= from_steps:
            if sdpa_reasons(query, key, value, dropout_p=dropout_p, bias=bias):
                return []
            where = f"from head dim {limit} and {from_steps} steps on at level {ISA}"
            return [_CROSSOVER.slower("sdpa", where)]
    return []
