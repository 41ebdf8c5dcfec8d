"""Cross-attention in plain PyTorch: the definition that every other backend is tested against."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusionkit.ops.cross_attention.masks import rows_without_result
from fusionkit.ops.lengths import within
from fusionkit.ops.philox import keep_mask


def run_reference(
    query: Tensor,  # (B, H, Tq, D)
    key: Tensor,  # (B, H, Tk, D)
    value: Tensor,  # (B, H, Tk, Dv)
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    bias: Tensor | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Takes the checked arguments of `cross_attention`; half precision is computed in float32."""
    dtype = query.dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    query, key, value = query.to(compute), key.to(compute), value.to(compute)
    batch, heads, num_queries, head_dim = query.shape
    num_keys = key.shape[2]
    scale = 1.0 / math.sqrt(head_dim) if scale is None else scale

    # Padding may hold NaN, and 0 * NaN is NaN: it has to go before any product.
    if query_lengths is not None:
        padded_queries = ~within(query_lengths, num_queries)[:, None, :, None]
        query = query.masked_fill(padded_queries, 0.0)
    if key_lengths is not None:
        padded_keys = ~within(key_lengths, num_keys)[:, None, :, None]
        key, value = key.masked_fill(padded_keys, 0.0), value.masked_fill(padded_keys, 0.0)

    scores = (query * scale) @ key.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias.to(compute)
    if key_lengths is not None:
        scores = scores.masked_fill(padded_keys.transpose(-2, -1), -math.inf)
    empty = (scores == -math.inf).all(dim=-1, keepdim=True)
    by_lengths = rows_without_result(key_lengths, query_lengths, num_queries)
    if by_lengths is not None:
        empty = empty | by_lengths

    weights = scores.masked_fill(empty, 0.0).softmax(dim=-1).masked_fill(empty, 0.0)
    if dropout_p > 0.0:
        assert seed is not None
        shape = (batch, heads, num_queries, num_keys)
        keep = keep_mask(seed, shape, dropout_p, weights.device)
        weights = weights * keep / (1.0 - dropout_p)
    result = (weights @ value).masked_fill(empty, 0.0).to(dtype)
    return (result, weights.to(dtype)) if return_weights else result


def reference_reasons(*args: object, **kwargs: object) -> list[str]:
    """The reference takes everything."""
    return []
