"""Launches the attention kernels over one pair or several: one launch, whatever their number.

The grid is a list of work items: tile by tile, head by head, sample by sample, pair by pair, the
pairs whose tiles take longest first, so that the short ones fill the end. Only shapes are looked
at, never lengths: nothing waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fusionkit.ops.cross_attention.autograd import empty_as
from fusionkit.ops.cross_attention.triton_tiles import padded_size, tiles
from fusionkit.ops.triton_runtime import on_device_of, unit_of, vector_of

QUERY, KEY, VALUE, SCORES = 1, 2, 4, 8
"""Bits of the gradients that `backward` is asked for."""

Several = Sequence[Tensor] | None


class Attention(NamedTuple):
    """One pair: the arguments of `cross_attention`, checked.

    Args:
        query, key, value: (B, H, T, D), any strides. bias: four axes, or None.
        key_lengths, query_lengths: (B,) int64, or None. scale: on the scores.
        seed: 0-d int64 on the device, or None. All pairs have one, or none has; so with lengths.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    bias: Tensor | None
    key_lengths: Tensor | None
    query_lengths: Tensor | None
    scale: float
    seed: Tensor | None


def forward(pairs: Sequence[Attention], dropout_p: float) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs (B, H, Tq, Dv) and row sums (2, B, H, Tq) of every pair."""
    from fusionkit.ops.cross_attention.triton_forward import attention_forward

    outs = [empty_as(p.query, p.query.shape[2], p.value.shape[3]) for p in pairs]
    row_sums = [_float32(p.query, 2, *p.query.shape[:3]) for p in pairs]
    _launch(
        attention_forward, "forward", pairs, dropout_p,
        {**_inputs(pairs), "outs": outs},
        {"row_sums": row_sums},
    )  # fmt: skip
    return outs, row_sums


def backward(
    pairs: Sequence[Attention],
    grad_outs: Sequence[Tensor],
    outs: Sequence[Tensor],
    row_sums: Sequence[Tensor],
    dropout_p: float,
    needs: int,
) -> list[list[Tensor]]:
    """Gradients of query, key, value and scores (float32), those that ``needs`` has the bits of.

    Returns:
        One list a kind, with one tensor a pair.
    """
    from fusionkit.ops.cross_attention.triton_backward import (
        attention_backward_keys,
        attention_backward_rows,
    )

    queries = [_like(p.query) for p in pairs] if needs & QUERY else None
    keys = [_like(p.key) for p in pairs] if needs & KEY else None
    values = [_like(p.value) for p in pairs] if needs & VALUE else None
    scores: list[Tensor] | None = None
    if needs & SCORES:
        # The kernel visits valid scores only.
        scores = [_float32(p.query, *p.query.shape[:3], p.key.shape[2]).zero_() for p in pairs]
    inputs = _inputs(pairs)
    grad_outs = [_rows_in_one_piece(grad) for grad in grad_outs]
    deltas = None
    if needs != VALUE:
        deltas = [_float32(p.query, *p.query.shape[:3]) for p in pairs]
        _launch(
            attention_backward_rows, "rows", pairs, dropout_p,
            {**inputs, "outs": outs, "grad_outs": grad_outs, "grad_queries": queries},
            {"grad_biases": scores, "row_sums": row_sums, "deltas": deltas},
        )  # fmt: skip
    if needs & (KEY | VALUE):
        _launch(
            attention_backward_keys, "keys", pairs, dropout_p,
            {**inputs, "grad_outs": grad_outs, "grad_keys": keys, "grad_values": values},
            {"row_sums": row_sums, "deltas": deltas},
        )  # fmt: skip
    return [found for found in (queries, keys, values, scores) if found is not None]


def _launch(
    kernel: Any,
    kind: str,
    pairs: Sequence[Attention],
    dropout_p: float,
    strided: dict[str, Several],  # in the order in which the kernel takes their strides
    contiguous: dict[str, Several],
) -> None:
    query = pairs[0].query
    size = padded_size(max(p.query.shape[3] for p in pairs))
    value_size = padded_size(max(p.value.shape[3] for p in pairs))
    steps = 1 if kind == "keys" else 0  # of the side that is cut into tiles
    layouts = [
        [_strides(given[i]) if given is not None else (0, 0, 0) for given in strided.values()]
        for i in range(len(pairs))
    ]
    unit = _unit(pairs, layouts)
    tile = tiles(
        kind, max(size, value_size), query.dtype, has_bias=pairs[0].bias is not None,
        aligned=unit == vector_of(query.dtype),
        longest=max((p.query, p.key)[steps].shape[2] for p in pairs),
    )  # fmt: skip
    block = tile.keys if kind == "keys" else tile.rows

    def cost(i: int) -> int:
        """Of one tile of the pair: it goes through all steps of the other side."""
        others, value = (pairs[i].query, pairs[i].key)[1 - steps], pairs[i].value
        return others.shape[2] * (others.shape[3] + value.shape[3])

    order = sorted(range(len(pairs)), key=cost, reverse=True)
    numbers, first = [], 0
    for i in order:
        numbers.append(_numbers(pairs[i], first, layouts[i], unit))
        batch, heads, count, _ = (pairs[i].query, pairs[i].key)[steps].shape
        first += batch * heads * -(-count // block)
    if not first:
        return

    def ordered(given: Several) -> tuple[Tensor, ...] | None:
        return None if given is None else tuple(given[i] for i in order)

    precision = "ieee"
    if query.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32":
        precision = "tf32"
    with on_device_of(query):
        kernel[(first,)](
            **{name: ordered(given) for name, given in {**strided, **contiguous}.items()},
            biases=ordered([p.bias for p in pairs if p.bias is not None] or None),
            key_lengths=ordered(_all(p.key_lengths for p in pairs)),
            query_lengths=ordered(_all(p.query_lengths for p in pairs)),
            seeds=ordered(_all(p.seed for p in pairs)),
            scales=tuple(float(pairs[i].scale) for i in order),
            numbers=tuple(numbers),
            threshold=math.floor(dropout_p * 2**32), factor=1.0 / (1.0 - dropout_p),
            ROWS=tile.rows, KEY_STEPS=tile.keys, SIZE=size, VALUE_SIZE=value_size,
            UNIT=unit, PRECISION=precision,
            num_warps=tile.num_warps, num_stages=tile.num_stages,
        )  # fmt: skip


def _inputs(pairs: Sequence[Attention]) -> dict[str, Several]:
    return {
        "queries": [_rows_in_one_piece(p.query) for p in pairs],
        "keys": [_rows_in_one_piece(p.key) for p in pairs],
        "values": [_rows_in_one_piece(p.value) for p in pairs],
    }


def _rows_in_one_piece(x: Tensor) -> Tensor:
    """The kernels take any strides of batch, heads and steps."""
    return x if x.stride(3) == 1 or x.shape[3] <= 1 else x.contiguous()


def _like(x: Tensor) -> Tensor:
    return empty_as(x, x.shape[2], x.shape[3])


def _float32(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.float32)


def _all(given: Iterable[Tensor | None]) -> list[Tensor] | None:
    """Of every pair, or of none."""
    found = [x.contiguous() for x in given if x is not None]
    return found or None


def _strides(x: Tensor) -> tuple[int, ...]:
    """Of all axes but the last; 0 for those of size 1, where torch may say anything."""
    return tuple(0 if size == 1 else step for size, step in zip(x.shape[:3], x.stride()))


def _unit(pairs: Sequence[Attention], layouts: Sequence[Sequence[tuple[int, ...]]]) -> int:
    """Of all dims and strides; a thread reads so many elements at once."""
    dims = [size for p in pairs for size in (p.query.shape[3], p.value.shape[3])]
    steps = [step for layout in layouts for strides in layout for step in strides]
    return unit_of(pairs[0].query.dtype, *dims, *steps)


def _numbers(
    pair: Attention, first: int, layout: Sequence[tuple[int, ...]], unit: int
) -> tuple[int, ...]:
    """As `triton_parts` reads them."""
    batch, heads, num_queries, dim = pair.query.shape
    num_keys, value_dim = pair.value.shape[2:]
    for_bias: tuple[int, ...] = (0, 0, 0, 0)
    if pair.bias is not None:
        for_bias = (*_strides(pair.bias), 0 if pair.bias.shape[3] == 1 else pair.bias.stride(3))
    sizes = (first, heads, num_queries, num_keys, dim // unit, value_dim // unit)
    steps = [step // unit for strides in layout for step in strides]
    return encoded(*sizes, batch * heads * num_queries, *for_bias, *steps)


def encoded(*numbers: int) -> tuple[int, ...]:
    """Odd numbers from 3 on, for numbers from 0 on.

    Triton compiles a kernel anew where a number becomes 1 or a multiple of 16, in tuples always. It
    has nothing to say about these, so that new lengths of the batch compile nothing.
    """
    return tuple(2 * n + 3 for n in numbers)
