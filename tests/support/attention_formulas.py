"""Cross-attention written out: by loops over the valid keys, and as one writes it in PyTorch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.philox import keep_mask

INF = math.inf


def by_loops(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_weights: bool = False,
) -> Any:
    """One query row at a time over its valid keys only."""
    batch, heads, num_queries, head_dim = query.shape
    num_keys = key.shape[2]
    full = (batch, heads, num_queries, num_keys)
    bias = query.new_zeros(full) if bias is None else bias.expand(full)
    keep = keep_mask(seed, full, dropout_p, query.device) if seed is not None else None
    scale = head_dim**-0.5 if scale is None else scale
    result, weights = [], []
    for b in range(batch):
        keys = num_keys if key_lengths is None else int(key_lengths[b])
        rows = num_queries if query_lengths is None else int(query_lengths[b])
        for h in range(heads):
            for i in range(num_queries):
                row = query.new_zeros(num_keys)
                mixed = query.new_zeros(value.shape[3])
                if i < rows:
                    scores = [
                        (query[b, h, i] * key[b, h, j]).sum() * scale + bias[b, h, i, j]
                        for j in range(keys)
                    ]
                    allowed = [j for j in range(keys) if scores[j] > -INF]
                    total = sum((scores[j].exp() for j in allowed), query.new_zeros(()))
                    for j in allowed:
                        weight = scores[j].exp() / total
                        if keep is not None:
                            weight = weight * keep[b, h, i, j] / (1 - dropout_p)
                        row = row + weight * torch.nn.functional.one_hot(torch.tensor(j), num_keys)
                        mixed = mixed + weight * value[b, h, j]
                weights.append(row)
                result.append(mixed)
    output = torch.stack(result).view(batch, heads, num_queries, -1)
    return (output, torch.stack(weights).view(full)) if return_weights else output


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_weights: bool = False,
) -> Any:
    """What one writes without the operator, all in the inputs' dtype: sets the allowed error."""
    scores = query @ key.transpose(-2, -1) * (query.shape[3] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    if key_lengths is not None:
        valid = torch.arange(key.shape[2]) < key_lengths[:, None]
        scores = scores.masked_fill(~valid[:, None, None], -INF)
    empty = (scores == -INF).all(-1, keepdim=True)
    if query_lengths is not None:
        rows = torch.arange(query.shape[2]) >= query_lengths[:, None]
        empty = empty | rows[:, None, :, None]
    weights = scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    if seed is not None:
        b, h, tq, tk = scores.shape
        weights = weights * keep_mask(seed, (b, h, tq, tk), dropout_p, query.device)
        weights = weights / (1 - dropout_p)
    return (weights @ value, weights) if return_weights else weights @ value
