"""Gradients of several cross-attentions at once, and the operators' shapes for tracing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, seed_on
from fusionkit.ops.cross_attention.autograd import empty_as
from fusionkit.ops.cross_attention.reference import run_reference
from fusionkit.ops.cross_attention_pairs.pair import AttentionPair, lengths_of_all
from fusionkit.ops.extension import AVAILABLE

FORWARD_SCHEMA = (
    "cross_attention_pairs(Tensor[] query, Tensor[] key, Tensor[] value, Tensor[] key_lengths,"
    " Tensor[] query_lengths, float[] scale, float dropout_p, Tensor[] seed) -> Tensor[]"
)
BACKWARD_SCHEMA = (
    "cross_attention_pairs_backward(Tensor[] grad_out, Tensor[] query, Tensor[] key,"
    " Tensor[] value, Tensor[] out, Tensor[] row_sums, Tensor[] key_lengths,"
    " Tensor[] query_lengths, float[] scale, float dropout_p, Tensor[] seed) -> Tensor[]"
)


def run_on_device(
    namespace: str, pairs: Sequence[AttentionPair], scale: float | None, dropout_p: float
) -> list[Tensor]:
    """Call the operators of a namespace whose kernels read seeds on the device of the queries."""
    scales = [1.0 / math.sqrt(p.query.shape[3]) if scale is None else scale for p in pairs]
    seeds = [] if dropout_p == 0.0 else [seed_on(p.seed, p.query.device) for p in pairs]
    key_lengths = lengths_of_all([p.key_lengths for p in pairs], [p.key for p in pairs])
    query_lengths = lengths_of_all([p.query_lengths for p in pairs], [p.query for p in pairs])
    tensors = [*(p.query for p in pairs), *(p.key for p in pairs), *(p.value for p in pairs)]
    n = len(pairs)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        outputs = CrossAttentionPairs.apply(  # type: ignore[no-untyped-call]
            namespace, key_lengths, query_lengths, scales, dropout_p, seeds, *apart(tensors)
        )
    else:
        outputs = getattr(torch.ops, namespace).cross_attention_pairs.default(
            tensors[:n], tensors[n : 2 * n], tensors[2 * n :], key_lengths, query_lengths, scales,
            dropout_p, seeds,
        )  # fmt: skip
    return list(outputs[:n])


class CrossAttentionPairs(torch.autograd.Function):
    """The operators of a namespace on n pairs; tensors are n queries, n keys, n values.

    With ``create_graph=True`` the backward runs the reference instead, for second derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        namespace: str,
        key_lengths: list[Tensor],
        query_lengths: list[Tensor],
        scales: list[float],
        dropout_p: float,
        seeds: list[Tensor],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        n = len(scales)
        saved = getattr(torch.ops, namespace).cross_attention_pairs.default(
            list(tensors[:n]), list(tensors[n : 2 * n]), list(tensors[2 * n :]), key_lengths,
            query_lengths, scales, dropout_p, seeds,
        )  # fmt: skip
        ctx.save_for_backward(*tensors, *saved, *key_lengths, *query_lengths, *seeds)
        ctx.counts = (3 * n, n, n, len(key_lengths), len(query_lengths), len(seeds))
        ctx.namespace, ctx.scales, ctx.dropout_p = namespace, scales, dropout_p
        return tuple(saved[:n])

    @staticmethod
    def backward(ctx: Any, *grad_out: Tensor) -> tuple[Tensor | None, ...]:
        saved = iter(ctx.saved_tensors)
        tensors, out, row_sums, *options = ([next(saved) for _ in range(n)] for n in ctx.counts)
        needed = ctx.needs_input_grad[6:]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            found = _differentiable(ctx, grad_out, tensors, needed, *options)
        else:
            n = len(ctx.scales)
            key_lengths, query_lengths, seeds = options
            gradients = getattr(torch.ops, ctx.namespace).cross_attention_pairs_backward.default(
                list(grad_out), tensors[:n], tensors[n : 2 * n], tensors[2 * n :], out, row_sums,
                key_lengths, query_lengths, ctx.scales, ctx.dropout_p, seeds,
            )  # fmt: skip
            by_argument = [gradients[3 * i + which] for which in range(3) for i in range(n)]
            found = [g if need else None for g, need in zip(by_argument, needed)]
        return (None, None, None, None, None, None, *found)


def _differentiable(
    ctx: Any,
    grad_out: tuple[Tensor, ...],
    tensors: list[Tensor],
    needed: tuple[bool, ...],
    key_lengths: list[Tensor],
    query_lengths: list[Tensor],
    seeds: list[Tensor],
) -> list[Tensor | None]:
    """The gradients that are needed, from the reference, so that they have gradients themselves."""
    n = len(ctx.scales)
    # Views keep the inputs apart where one tensor is given twice.
    views = [x.view_as(x) for x in tensors]
    results = [
        run_reference(
            views[i], views[n + i], views[2 * n + i],
            key_lengths=key_lengths[i] if key_lengths else None,
            query_lengths=query_lengths[i] if query_lengths else None,
            scale=ctx.scales[i], dropout_p=ctx.dropout_p, seed=seeds[i] if seeds else None,
        )
        for i in range(n)
    ]  # fmt: skip
    wanted = [view for view, need in zip(views, needed) if need]
    outputs = cast(list[Tensor], results)
    gradients = iter(torch.autograd.grad(outputs, wanted, grad_out, create_graph=True))
    return [next(gradients) if need else None for need in needed]


def fake_forward(
    query: list[Tensor],
    key: list[Tensor],
    value: list[Tensor],
    key_lengths: list[Tensor],
    query_lengths: list[Tensor],
    scale: list[float],
    dropout_p: float,
    seed: list[Tensor],
) -> list[Tensor]:
    """Shapes of the outputs, and of the row sums behind them."""
    outputs = [empty_as(q, q.shape[2], v.shape[3]) for q, v in zip(query, value)]
    return outputs + [q.new_empty(2, *q.shape[:3], dtype=torch.float32) for q in query]


def fake_backward(
    grad_out: list[Tensor],
    query: list[Tensor],
    key: list[Tensor],
    value: list[Tensor],
    out: list[Tensor],
    row_sums: list[Tensor],
    key_lengths: list[Tensor],
    query_lengths: list[Tensor],
    scale: list[float],
    dropout_p: float,
    seed: list[Tensor],
) -> list[Tensor]:
    """Shapes of the gradients of query, key and value, pair by pair."""
    return [empty_as(x, x.shape[2], x.shape[3]) for pair in zip(query, key, value) for x in pair]


if AVAILABLE:
    torch.library.register_fake("fusionkit::cross_attention_pairs", fake_forward)
    torch.library.register_fake("fusionkit::cross_attention_pairs_backward", fake_backward)
