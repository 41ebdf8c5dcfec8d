"""Several cross-attentions in one launch of the Triton kernels, and two for their gradients."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusionkit.ops.cross_attention.triton import triton_attention_reasons
from fusionkit.ops.cross_attention.triton_launch import KEY, QUERY, VALUE, Attention
from fusionkit.ops.cross_attention.triton_launch import backward as launch_backward
from fusionkit.ops.cross_attention.triton_launch import forward as launch_forward
from fusionkit.ops.cross_attention_pairs.autograd import (
    BACKWARD_SCHEMA,
    FORWARD_SCHEMA,
    fake_backward,
    fake_forward,
    run_on_device,
)
from fusionkit.ops.cross_attention_pairs.pair import (
    AttentionPair,
    reasons_of_each,
    unlike_reasons,
)
from fusionkit.ops.triton_runtime import NAMESPACE, define

# The arguments of a kernel are 208 bytes a pair, 328 where sizes need 64 bits, of at most 4 KiB.
MAX_PAIRS = 12


def run_triton(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[Tensor]:
    """Takes the checked arguments of `cross_attention_pairs`, as far as `pairs_reasons` is empty.

    Where the pairs' head dims differ they are all padded, in registers, to the largest.
    """
    return run_on_device(NAMESPACE, pairs, scale, dropout_p)


def pairs_reasons(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[str]:
    """Why the kernels cannot take these pairs, given that Triton is installed."""
    reasons = reasons_of_each(pairs, dropout_p, triton_attention_reasons) + unlike_reasons(pairs)
    if len(pairs) > MAX_PAIRS:
        reasons.append(f"{len(pairs)} pairs, the kernel takes up to {MAX_PAIRS}")
    return reasons


def _attentions(
    query: list[Tensor],
    key: list[Tensor],
    value: list[Tensor],
    key_lengths: list[Tensor],
    query_lengths: list[Tensor],
    scale: list[float],
    seed: list[Tensor],
) -> list[Attention]:
    nothing = [None] * len(query)
    options = (key_lengths or nothing, query_lengths or nothing, scale, seed or nothing)
    columns = zip(query, key, value, nothing, *options, strict=True)
    return [Attention(*arguments) for arguments in columns]


def _forward(
    query: list[Tensor],
    key: list[Tensor],
    value: list[Tensor],
    key_lengths: list[Tensor],
    query_lengths: list[Tensor],
    scale: list[float],
    dropout_p: float,
    seed: list[Tensor],
) -> list[Tensor]:
    pairs = _attentions(query, key, value, key_lengths, query_lengths, scale, seed)
    outs, row_sums = launch_forward(pairs, dropout_p)
    return outs + row_sums


def _backward(
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
    pairs = _attentions(query, key, value, key_lengths, query_lengths, scale, seed)
    needs = QUERY | KEY | VALUE
    found = launch_backward(pairs, grad_out, out, row_sums, dropout_p, needs)
    return [gradient for of_pair in zip(*found) for gradient in of_pair]


define(FORWARD_SCHEMA, _forward, fake_forward)
define(BACKWARD_SCHEMA, _backward, fake_backward)
