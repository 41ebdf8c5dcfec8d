"""Attention as one writes it in plain PyTorch, and how much work attention is."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.bench.case import BOTH, FORWARD, Work
from fusionkit.bench.differentiable import fixed_upstream
from fusionkit.ops.philox import keep_mask

_CHUNK_SCORES = 8 * 2**20


def key_mask(key_lengths: Tensor | None, steps: int) -> Tensor | None:
    """(B, 1, 1, Tk) bool, True on valid keys; None where all are."""
    if key_lengths is None:
        return None
    positions = torch.arange(steps, device=key_lengths.device)
    return (positions < key_lengths[:, None])[:, None, None, :]


def plain_attention(
    query: Tensor,  # (B, H, Tq, D)
    key: Tensor,  # (B, H, Tk, D)
    value: Tensor,  # (B, H, Tk, D)
    mask: Tensor | None,  # (B, 1, 1, Tk), True on valid keys
    dropout_p: float,
) -> Tensor:
    """Softmax attention with torch's own dropout of the weights."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    if dropout_p:
        weights = F.dropout(weights, dropout_p)
    result: Tensor = weights @ value
    return result


def keyed_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout_p: float, seed: int
) -> Tensor:
    """`plain_attention` with FusionKit's dropout mask of a seed."""
    batch, heads, queries, _ = query.shape
    keep = None
    if dropout_p:
        keep = keep_mask(seed, (batch, heads, queries, key.shape[2]), dropout_p, query.device)
    return _with_kept(query, key, value, mask, dropout_p, keep)


def attention_results(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    seed: int,
    phase: str,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Output, and in the phase ``fwd+bwd`` the gradients of query, key and value.

    A few samples at a time: all scores of a long case would not fit into memory in float64.
    """
    batch, heads, queries, _ = query.shape
    shape = (batch, heads, queries, key.shape[2])
    keep = keep_mask(seed, shape, dropout_p, query.device) if dropout_p else None
    upstream = fixed_upstream(query.shape, query.dtype, query.device)
    step = max(1, _CHUNK_SCORES // (heads * queries * key.shape[2]))
    outputs: list[Tensor] = []
    gradients: list[tuple[Tensor, ...]] = []
    for start in range(0, batch, step):
        rows = slice(start, start + step)
        q, k, v = (x[rows].detach().requires_grad_(phase == BOTH) for x in (query, key, value))
        part_mask = None if mask is None else mask[rows]
        part_keep = None if keep is None else keep[rows]
        output = _with_kept(q, k, v, part_mask, dropout_p, part_keep)
        outputs.append(output.detach())
        if phase == BOTH:
            gradients.append(torch.autograd.grad(output, (q, k, v), upstream[rows]))
    return torch.cat(outputs), tuple(torch.cat(g) for g in zip(*gradients))


def _with_kept(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    keep: Tensor | None,
) -> Tensor:
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    if keep is not None:
        weights = weights * keep / (1.0 - dropout_p)
    result: Tensor = weights @ value
    return result


def attention_work(
    batch: int, heads: int, queries: int, head_dim: int, valid_keys: int, phase: str
) -> Work:
    """Products over valid keys only, and every operand and result moved once.

    Forward 2 products, backward 5 (the scores are made again), each of 2 operations for a pair of
    query and key and a feature; the softmax is not counted. Forward reads query, key and value and
    writes the output; backward reads these three and the gradient, and writes three gradients.

    Args:
        valid_keys: sum over the batch of valid keys.
    """
    products = {FORWARD: 2, BOTH: 7}[phase]
    flops = 2.0 * products * heads * queries * valid_keys * head_dim
    query_side, key_side = batch * heads * queries * head_dim, heads * valid_keys * head_dim
    query_passes, key_passes = {FORWARD: (2, 2), BOTH: (5, 6)}[phase]
    return Work(flops, 4.0 * (query_passes * query_side + key_passes * key_side))
