"""Softmax attention from one sequence to another, each with lengths of its own.

Scaled dot-product attention, ``softmax(Q K^T * scale + bias) V`` (Vaswani et al. 2017, "Attention
is all you need", eq. 1), over sequences padded at the end. Lengths instead of masks: key positions
at or beyond ``key_lengths[b]`` take no part, whatever they hold (NaN too); query rows at or beyond
``query_lengths[b]``, and rows that no key is left for (length 0, or -inf bias everywhere), give
exact zeros and pass no gradient. `reference.run_reference` defines all of it.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor

from fusionkit.ops.arguments import is_autocasting
from fusionkit.ops.backends import Backend, choose, register_backend
from fusionkit.ops.cross_attention.cost import cuda_slower_reasons, gpu_slower_reasons
from fusionkit.ops.cross_attention.cpu import cpu_reasons, cpu_slower_reasons, run_cpu
from fusionkit.ops.cross_attention.cuda import cuda_attention_reasons, run_cuda
from fusionkit.ops.cross_attention.reference import reference_reasons, run_reference
from fusionkit.ops.cross_attention.sdpa import run_sdpa, sdpa_reasons
from fusionkit.ops.cross_attention.triton import run_triton, triton_attention_reasons
from fusionkit.ops.cross_attention.validate import check_arguments
from fusionkit.ops.cuda_runtime import cuda_absence
from fusionkit.ops.extension import absence
from fusionkit.ops.triton_runtime import triton_absence

__all__ = ["cross_attention"]

register_backend(
    Backend(
        op="cross_attention",
        name="reference",
        run=run_reference,
        not_supported_reasons=reference_reasons,
        priority=0,
        summary="plain PyTorch; takes everything",
    )
)
register_backend(
    Backend(
        op="cross_attention",
        name="sdpa",
        run=run_sdpa,
        not_supported_reasons=sdpa_reasons,
        priority=10,
        summary="torch scaled_dot_product_attention, without dropout and weights; "
        "CPU forward 1.0 to 2.4 times as fast as plain PyTorch at 50 x 50 steps, 1.6 to 3.8 times "
        "from 375",
    )
)
register_backend(
    Backend(
        op="cross_attention",
        name="cpu",
        run=run_cpu,
        not_supported_reasons=cpu_reasons,
        priority=20,
        summary="compiled kernel, float32, valid keys and rows only, no (Tq, Tk) tensor in memory",
        unavailable=absence(),
        slower_reasons=cpu_slower_reasons,
    )
)
register_backend(
    Backend(
        op="cross_attention",
        name="triton",
        run=run_triton,
        not_supported_reasons=triton_attention_reasons,
        priority=30,
        summary="Triton kernels, one launch forward and two backward; not measured on a device yet",
        unavailable=triton_absence(),
        slower_reasons=gpu_slower_reasons,
    )
)
register_backend(
    Backend(
        op="cross_attention",
        name="cuda",
        run=run_cuda,
        not_supported_reasons=cuda_attention_reasons,
        priority=40,
        summary="CUDA C++ kernels, one launch each way; not measured on a device yet",
        unavailable=cuda_absence(),
        slower_reasons=cuda_slower_reasons,
    )
)


@overload
def cross_attention(
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
    return_weights: Literal[False] = False,
) -> Tensor: ...


@overload
def cross_attention(
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
    return_weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def cross_attention(
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
) -> Tensor | tuple[Tensor, Tensor]:
    """Attend from ``query`` to ``key`` and mix ``value`` by the weights.

    Args:
        query: (B, H, Tq, D), floating point, D >= 1. Any strides, as for all tensors.
        key: (B, H, Tk, D). value: (B, H, Tk, Dv). Of the query's dtype, except under autocast,
            where all three are cast to the autocast dtype.
        key_lengths: (B,) int64 in [0, Tk], valid keys of each sample (default: all).
        query_lengths: (B,) int64 in [0, Tq], valid query rows of each sample (default: all).
            Values out of range raise on the CPU only, and not inside `torch.compile`.
        scale: factor on the scores, default 1/sqrt(D).
        dropout_p: probability in [0, 1) that a weight is dropped; the others grow by 1/(1-p).
        seed: of the dropout mask (`fusionkit.ops.philox.keep_mask`), an int or a 0-d int64 tensor;
            required when ``dropout_p > 0``. One seed gives one mask on every backend and device.
        bias: added to the scores, broadcastable to (B, H, Tq, Tk), differentiable; -inf excludes.
        return_weights: also return the weights, after dropout.

    Returns:
        (B, H, Tq, Dv), and with ``return_weights`` the weights (B, H, Tq, Tk) as second; both are
        differentiable.

    Raises:
        DataError: a shape, dtype, device or length does not fit.
        ConfigError: ``dropout_p`` out of range, or no seed for it.
        BackendError: the forced backend cannot take these inputs.
    """
    if is_autocasting(query) and query.dtype != torch.float64:
        device_type = query.device.type
        dtype = torch.get_autocast_dtype(device_type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        with torch.autocast(device_type, enabled=False):
            return _dispatch(
                query, key, value, key_lengths, query_lengths, scale,
                dropout_p, seed, bias, return_weights,
            )  # fmt: skip
    return _dispatch(
        query, key, value, key_lengths, query_lengths, scale,
        dropout_p, seed, bias, return_weights,
    )  # fmt: skip


def _dispatch(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    scale: float | None,
    dropout_p: float,
    seed: int | Tensor | None,
    bias: Tensor | None,
    return_weights: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    check_arguments(query, key, value, key_lengths, query_lengths, dropout_p, seed, bias)
    options = {
        "key_lengths": key_lengths,
        "query_lengths": query_lengths,
        "scale": scale,
        "dropout_p": dropout_p,
        "seed": seed,
        "bias": bias,
        "return_weights": return_weights,
    }
    backend = choose("cross_attention", query, key, value, **options)
    result: Tensor | tuple[Tensor, Tensor] = backend.run(query, key, value, **options)
    return result
