"""Cross-attention on the CUDA C++ kernels (csrc/kernels/cuda/attention_*.cuh)."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.cross_attention.autograd import (
    BACKWARD_SCHEMA,
    FORWARD_SCHEMA,
    fake_backward,
    fake_forward,
    run_on_device,
)
from fusionkit.ops.cross_attention.validate import kernel_reasons
from fusionkit.ops.cuda_runtime import NAMESPACE, cuda_reasons, define

MAX_HEAD_DIM = 128
MAX_STRIDE = 2**31 - 1


def run_cuda(
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
    """Takes checked arguments of `cross_attention`, as far as `cuda_attention_reasons` is empty.

    Half precision is computed in float32 and rounded once at the end; from head dim 17 on tensor
    cores multiply it, which take weights and gradients of scores in half precision, too.
    """
    if bias is not None:
        bias = bias.float()
    return run_on_device(
        NAMESPACE, query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed
    )


def cuda_attention_reasons(
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
    """Why the kernels cannot take these inputs, given that they are installed."""
    reasons = transform_reasons() + cuda_reasons("query", query, seed)
    reasons += kernel_reasons(query, value, bias, return_weights, MAX_HEAD_DIM)
    if not torch.compiler.is_compiling():  # there a size may be a symbol
        for name, x in (("query", query), ("key", key), ("value", value), ("bias", bias)):
            if x is not None and max((*x.shape, *x.stride()), default=0) > MAX_STRIDE:
                reasons.append(f"a size or stride of {name} is above {MAX_STRIDE}")
    return reasons


define(FORWARD_SCHEMA, fake_forward)
define(BACKWARD_SCHEMA, fake_backward)
