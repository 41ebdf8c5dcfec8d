"""Cross-attention on Triton kernels (`triton_forward`, `triton_backward`)."""

from __future__ import annotations

from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.cross_attention.autograd import (
    BACKWARD_SCHEMA,
    FORWARD_SCHEMA,
    fake_backward,
    fake_forward,
    run_on_device,
)
from fusionkit.ops.cross_attention.triton_launch import Attention, backward, forward
from fusionkit.ops.cross_attention.triton_tiles import MAX_HEAD_DIM
from fusionkit.ops.cross_attention.validate import kernel_reasons
from fusionkit.ops.triton_runtime import NAMESPACE, define, triton_reasons


def run_triton(
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
    """Takes checked arguments of `cross_attention`, as far as `triton_attention_reasons` is empty.

    Half precision is multiplied as it is and summed in float32. float32 is multiplied as such,
    or as TF32 where ``torch.backends.cuda.matmul.fp32_precision`` is "tf32".
    """
    return run_on_device(
        NAMESPACE, query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed
    )


def triton_attention_reasons(
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
    """Why the kernels cannot take these inputs, given that Triton is installed."""
    reasons = transform_reasons() + triton_reasons("query", query, seed)
    reasons += kernel_reasons(query, value, bias, return_weights, MAX_HEAD_DIM)
    return reasons


def _forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    scale: float,
    dropout_p: float,
    seed: Tensor | None,
) -> tuple[Tensor, Tensor]:
    pair = Attention(query, key, value, bias, key_lengths, query_lengths, scale, seed)
    (out,), (row_sums,) = forward([pair], dropout_p)
    return out, row_sums


def _backward(
    grad_out: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    row_sums: Tensor,
    bias: Tensor | None,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    scale: float,
    dropout_p: float,
    seed: Tensor | None,
    needs: int,
) -> list[Tensor]:
    pair = Attention(query, key, value, bias, key_lengths, query_lengths, scale, seed)
    found = backward([pair], [grad_out], [out], [row_sums], dropout_p, needs)
    return [gradient for (gradient,) in found]


define(FORWARD_SCHEMA, _forward, fake_forward)
define(BACKWARD_SCHEMA, _backward, fake_backward)
