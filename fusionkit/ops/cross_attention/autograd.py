"""Gradients of the cross-attention kernels, and the shapes of their operators for tracing."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, seed_on
from fusionkit.ops.cross_attention.masks import as_four_dimensions
from fusionkit.ops.cross_attention.reference import run_reference
from fusionkit.ops.extension import AVAILABLE

FORWARD_SCHEMA = (
    "cross_attention(Tensor query, Tensor key, Tensor value, Tensor? bias, Tensor? key_lengths,"
    " Tensor? query_lengths, float scale, float dropout_p, Tensor? seed) -> (Tensor, Tensor)"
)
BACKWARD_SCHEMA = (
    "cross_attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out,"
    " Tensor row_sums, Tensor? bias, Tensor? key_lengths, Tensor? query_lengths, float scale,"
    " float dropout_p, Tensor? seed, int needs) -> Tensor[]"
)


def run_on_device(
    namespace: str,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    scale: float | None,
    dropout_p: float,
    seed: int | Tensor | None,
) -> Tensor:
    """Call the operators of a namespace whose kernels read the seed on the device of the query."""
    if scale is None:
        scale = 1.0 / math.sqrt(query.shape[3])
    seed = None if dropout_p == 0.0 else seed_on(seed, query.device)
    tensors = [query, key, value] if bias is None else [query, key, value, bias]
    result: Tensor
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        query, key, value = apart([query, key, value])
        key_lengths, query_lengths = apart([key_lengths, query_lengths])
        result = CrossAttention.apply(  # type: ignore[no-untyped-call]
            namespace, query, key, value, bias, key_lengths, query_lengths, scale, dropout_p, seed
        )
        return result
    four = None if bias is None else as_four_dimensions(bias)
    result, _ = getattr(torch.ops, namespace).cross_attention.default(
        query, key, value, four, key_lengths, query_lengths, scale, dropout_p, seed
    )
    return result


class CrossAttention(torch.autograd.Function):
    """The forward and backward of a namespace; the backward makes the weights anew from row_sums.

    Those are (2, B, H, Tq): the largest score of each row, and the sum of the exponentials of
    (score - largest). In which base is up to the namespace.

    With ``create_graph=True`` the backward runs the reference instead, for second derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        namespace: str,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        key_lengths: Tensor | None,
        query_lengths: Tensor | None,
        scale: float,
        dropout_p: float,
        seed: Tensor | None,
    ) -> Tensor:
        result: Tensor
        four = None if bias is None else as_four_dimensions(bias)
        result, row_sums = getattr(torch.ops, namespace).cross_attention.default(
            query, key, value, four, key_lengths, query_lengths, scale, dropout_p, seed
        )
        ctx.save_for_backward(
            query, key, value, bias, key_lengths, query_lengths, seed, result, row_sums
        )
        ctx.namespace, ctx.scale, ctx.dropout_p = namespace, scale, dropout_p
        return result

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, *lengths, seed, result, row_sums = ctx.saved_tensors
        needed = ctx.needs_input_grad[1:5]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            inputs = (query, key, value, bias)
            options = (*lengths, ctx.scale, ctx.dropout_p, seed)
            gradients = iter(_differentiable(grad_out, inputs, needed, *options))
        else:
            four = None if bias is None else as_four_dimensions(bias)
            gradients = iter(
                getattr(torch.ops, ctx.namespace).cross_attention_backward.default(
                    grad_out, query, key, value, result, row_sums, four, *lengths,
                    ctx.scale, ctx.dropout_p, seed, sum(1 << i for i in range(4) if needed[i]),
                )
            )  # fmt: skip
        found = [next(gradients) if need else None for need in needed]
        if found[3] is not None:
            found[3] = found[3].sum_to_size(bias.shape).to(bias.dtype)
        return (None, *found, None, None, None, None, None)


def _differentiable(
    grad_out: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor, Tensor | None],
    needed: tuple[bool, ...],
    key_lengths: Tensor | None,
    query_lengths: Tensor | None,
    scale: float,
    dropout_p: float,
    seed: Tensor | None,
) -> tuple[Tensor, ...]:
    """The gradients that are needed, from the reference, so that they have gradients themselves."""
    # Views keep the inputs apart where one tensor is given twice.
    views = [None if x is None else x.view_as(x) for x in inputs]
    query, key, value, bias = views
    assert query is not None and key is not None and value is not None
    result = run_reference(
        query, key, value, key_lengths=key_lengths, query_lengths=query_lengths, scale=scale,
        dropout_p=dropout_p, seed=seed, bias=bias,
    )  # fmt: skip
    assert isinstance(result, Tensor)
    wanted = [view for view, need in zip(views, needed) if need and view is not None]
    return torch.autograd.grad(result, wanted, grad_out, create_graph=True)


def empty_as(like: Tensor, steps: int, size: int) -> Tensor:
    """(B, H, steps, size) in memory as the kernel lays it out: heads inside where ``like`` has."""
    batch, heads = like.shape[:2]
    if like.stride(1) >= like.stride(2):
        return like.new_empty(batch, heads, steps, size)
    return like.new_empty(batch, steps, heads, size).transpose(1, 2)


def fake_forward(
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
    """Shapes of the output and the row sums."""
    row_sums = query.new_empty(2, *query.shape[:3], dtype=torch.float32)
    return empty_as(query, query.shape[2], value.shape[3]), row_sums


def fake_backward(
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
    """Shapes of what the bits of ``needs`` ask for: query, key, value, scores (B, H, Tq, Tk)."""
    gradients = [empty_as(x, *x.shape[2:]) for x in (query, key, value)]
    gradients.append(query.new_empty(*query.shape[:3], key.shape[2], dtype=torch.float32))
    return [gradient for i, gradient in enumerate(gradients) if needs >> i & 1]


if AVAILABLE:
    torch.library.register_fake("fusionkit::cross_attention", fake_forward)
    torch.library.register_fake("fusionkit::cross_attention_backward", fake_backward)
