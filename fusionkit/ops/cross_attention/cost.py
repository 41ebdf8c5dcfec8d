"""Where SDPA should be faster than our kernels for GPUs: a cost model, nothing of it measured yet.

Our kernels compute valid keys and rows only, draw dropout from a seed, and need one launch for
everything; PyTorch's fused attention has neither lengths nor a seed, and other operations around it
make up for lengths. So SDPA is in question without those only, and in half precision: float32 runs
without tensor cores on both sides.

There the model counts scores. Both sides pay for whole tiles, two products by the head dim on
tensor cores, and an exponential: FlashAttention with large tiles, which it copies while it
multiplies, ours with small ones and no such overlap. The numbers are of a device with 132
multiprocessors at 1.8 GHz; what is compared is their quotient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.cross_attention.sdpa import sdpa_reasons
from fusionkit.ops.triton_runtime import triton_absence

# Floating-point operations, and exponentials, in a microsecond.
_OUR_FLOPS = 200e6
_SDPA_FLOPS = 500e6
_EXPONENTIALS = 132 * 16 * 1.8e3
# Rows and keys of a tile.
_OUR_TILE = 64
_SDPA_TILE = 128
# Multiply-adds on tensor cores begin at this head dim; narrower ones are computed in float32.
_TENSOR_CORES_FROM = 17


def our_microseconds(heads: int, queries: int, keys: int, head_dim: int) -> float:
    """Of a forward call in half precision on the CUDA kernels; ``heads`` of all samples."""
    scores = heads * _whole(queries, _OUR_TILE) * _whole(keys, _OUR_TILE)
    # One after the other: a warp multiplies, then takes exponentials.
    return scores * (4 * head_dim / _OUR_FLOPS + 1 / _EXPONENTIALS)


def sdpa_microseconds(heads: int, queries: int, keys: int, head_dim: int) -> float:
    """Of a forward call of FlashAttention behind SDPA."""
    scores = heads * _whole(queries, _SDPA_TILE) * _whole(keys, _SDPA_TILE)
    # Other warps multiply meanwhile.
    return scores * max(4 * head_dim / _SDPA_FLOPS, 1 / _EXPONENTIALS)


def gpu_slower_reasons(
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
    """Why SDPA should be faster on a CUDA device; empty where it takes the inputs less well."""
    if query.dtype not in (torch.float16, torch.bfloat16):
        return []
    if key_lengths is not None or query_lengths is not None or bias is not None:
        return []
    head_dim = max(query.shape[3], value.shape[3])
    if head_dim < _TENSOR_CORES_FROM:
        return []
    if sdpa_reasons(query, key, value, dropout_p=dropout_p, return_weights=return_weights):
        return []
    sizes = (query.shape[0] * query.shape[1], query.shape[2], key.shape[2], head_dim)
    ours, theirs = our_microseconds(*sizes), sdpa_microseconds(*sizes)
    if ours <= theirs:
        return []
    return [f"estimated, not measured: {ours:.1f} us forward, sdpa {theirs:.1f}"]


def cuda_slower_reasons(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> list[str]:
    """Why SDPA or Triton should be faster than the CUDA kernels, which know no TF32."""
    reasons = gpu_slower_reasons(query, key, value, **options)
    # Inside a compiled graph the setting cannot be read.
    if reasons or query.dtype != torch.float32 or torch.compiler.is_compiling():
        return reasons
    wide = max(query.shape[3], value.shape[3]) >= _TENSOR_CORES_FROM
    if wide and not triton_absence() and torch.backends.cuda.matmul.fp32_precision == "tf32":
        return ["TF32 is asked for, and the Triton kernels multiply in it"]
    return []


def _whole(steps: int, tile: int) -> int:
    return -(-steps // tile) * tile
