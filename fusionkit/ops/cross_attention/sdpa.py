"""Cross-attention on `torch.nn.functional.scaled_dot_product_attention`."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.ops.arguments import transform_reasons
from fusionkit.ops.cross_attention.masks import as_four_dimensions, rows_without_result
from fusionkit.ops.lengths import within

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def run_sdpa(
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
) -> Tensor:
    """Takes the checked arguments of `cross_attention`, as far as `sdpa_reasons` is empty."""
    num_queries, num_keys = query.shape[2], key.shape[2]
    mask = None
    # SDPA multiplies masked positions too, so NaN in padding has to go first.
    if query_lengths is not None:
        padded_queries = ~within(query_lengths, num_queries)[:, None, :, None]
        query = query.masked_fill(padded_queries, 0.0)
    if key_lengths is not None:
        padded_keys = ~within(key_lengths, num_keys)[:, None, :, None]
        key, value = key.masked_fill(padded_keys, 0.0), value.masked_fill(padded_keys, 0.0)
        mask = ~padded_keys.transpose(-2, -1)

    empty = rows_without_result(key_lengths, query_lengths, num_queries)
    if bias is not None:
        mask = as_four_dimensions(bias)
        if key_lengths is not None:
            mask = mask.masked_fill(padded_keys.transpose(-2, -1), -math.inf)
        # Not all kernels behind SDPA give zeros where every key of a row is at -inf.
        no_key = (mask == -math.inf).all(dim=-1, keepdim=True)
        empty = no_key if empty is None else empty | no_key
        mask = mask.masked_fill(empty, 0.0)

    result = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return result if empty is None else result.masked_fill(empty, 0.0)


def sdpa_reasons(
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
    """Why these arguments cannot run on SDPA."""
    reasons = transform_reasons()
    if dropout_p > 0.0:
        reasons.append("dropout_p > 0: the dropout of SDPA does not follow the seed")
    if return_weights:
        reasons.append("return_weights: SDPA does not return the weights")
    if query.dtype not in _DTYPES:
        reasons.append(f"dtype {query.dtype} is not one of float32, float64, bfloat16, float16")
    if bias is not None and bias.dtype != query.dtype:
        reasons.append(f"bias is {bias.dtype} and query {query.dtype}: SDPA wants one dtype")
    if 0 in query.shape or 0 in key.shape or 0 in value.shape:
        reasons.append("an axis has size 0")
    return reasons
