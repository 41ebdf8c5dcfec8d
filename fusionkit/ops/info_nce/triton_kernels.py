"""InfoNCE on a GPU: scores are made tile by tile, forward and again backward, and never stored.

A program takes ROWS vectors of one side and goes over all of the other, COLUMNS at a time, in a
fixed order; inner products add up DEPTH features at a time. Products of float32 are not rounded to
TF32, those of half precision are exact.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from fusionkit.ops.triton_runtime import DTYPE_NAMES, INTERPRETING, KernelBuild, unit_of

# Tiles that spill no register on any device: products in float32 take many.
ROWS = 16
FORWARD_COLUMNS, BACKWARD_COLUMNS = 64, 32
DEPTH = 16
MAX_WIDTH = 64
NUM_WARPS = 8
NUMBERS = ["count", "units", "scale"]
# The interpreter multiplies the bits of bfloat16 as if they were integers.
UPCAST = tl.constexpr(INTERPRETING)


@triton.jit
def _scores(
    mine, others, rows_left, columns_left, size, scale,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """(ROWS, COLUMNS) of scaled inner products; 0 where there is no such vector."""
    row, column = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in range(0, size, DEPTH):
        along = start + tl.arange(0, DEPTH)[None, :]
        there = (row < rows_left) & (along < size)
        own = tl.load(mine + row * size + along, mask=there, other=0.0)
        down = start + tl.arange(0, DEPTH)[:, None]
        there = (column < columns_left) & (down < size)
        other = tl.load(others + column * size + down, mask=there, other=0.0)
        if UPCAST:
            own, other = own.to(tl.float32), other.to(tl.float32)
        total = tl.dot(own, other, total, input_precision="ieee")
    return total * scale


@triton.jit(do_not_specialize=NUMBERS)
def info_nce_forward(
    queries, keys, losses, normalisers, count, units, scale,
    UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    """The normalisers are the logsumexp of every row. ``units`` times UNIT are the features."""
    size = units * UNIT
    first = tl.program_id(0) * ROWS
    row = first + tl.arange(0, ROWS)
    queries += tl.cast(first, tl.int64) * size
    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    paired = tl.zeros([ROWS], tl.float32)
    for start in range(0, count, COLUMNS):
        column = start + tl.arange(0, COLUMNS)[None, :]
        some_keys = keys + tl.cast(start, tl.int64) * size
        scores = _scores(
            queries, some_keys, count - first, count - start, size, scale, ROWS, COLUMNS, DEPTH
        )
        paired += tl.sum(tl.where(row[:, None] == column, scores, 0.0), axis=1)
        scores = tl.where(column < count, scores, float("-inf"))
        now = tl.maximum(largest, tl.max(scores, axis=1))
        total = total * tl.exp(largest - now) + tl.sum(tl.exp(scores - now[:, None]), axis=1)
        largest = now
    # The difference of the two large numbers first: it is exact where a query's own key is best.
    tl.store(losses + row, (largest - paired) + tl.log(total), mask=row < count)
    tl.store(normalisers + row, largest + tl.log(total), mask=row < count)


@triton.jit(do_not_specialize=NUMBERS)
def info_nce_backward(
    grad_out, mine, others, normalisers, gradient, count, units, scale,
    OF_KEYS: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Gradient of ROWS queries (OF_KEYS: of keys), WIDTH features of them."""
    size = units * UNIT
    first = tl.program_id(0) * ROWS
    row = first + tl.arange(0, ROWS)[:, None]
    mine += tl.cast(first, tl.int64) * size
    feature = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)[None, :]
    total = tl.zeros([ROWS, WIDTH], tl.float32)
    for start in range(0, count, COLUMNS):
        some = others + tl.cast(start, tl.int64) * size
        scores = _scores(
            mine, some, count - first, count - start, size, scale, ROWS, COLUMNS, DEPTH
        )
        column = start + tl.arange(0, COLUMNS)[None, :]
        query = column if OF_KEYS else row
        grad = tl.load(grad_out + query, mask=query < count, other=0.0).to(tl.float32)
        normaliser = tl.load(normalisers + query, mask=query < count, other=0.0)
        paired = (row == column).to(tl.float32)
        there = (row < count) & (column < count)
        slope = tl.where(there, grad * (tl.exp(scores - normaliser) - paired), 0.0)
        local = tl.arange(0, COLUMNS)[:, None]
        there = (local < count - start) & (feature < size)
        other = tl.load(some + local * size + feature, mask=there, other=0.0)
        total = tl.dot(slope, other.to(tl.float32), total, input_precision="ieee")
    gradient += tl.cast(first, tl.int64) * size
    place = tl.arange(0, ROWS)[:, None] * size + feature
    tl.store(gradient + place, total * scale, mask=(row < count) & (feature < size))


def forward_tiles(count: int, size: int, dtype: torch.dtype) -> tuple[tuple[int], dict[str, Any]]:
    """The grid and the constants of a launch over ``count`` vectors on each side."""
    unit = unit_of(dtype, size)
    constants = {"UNIT": unit, "ROWS": ROWS, "COLUMNS": FORWARD_COLUMNS, "DEPTH": DEPTH}
    return (triton.cdiv(count, ROWS),), constants


def backward_tiles(
    count: int, size: int, dtype: torch.dtype
) -> tuple[tuple[int, int], dict[str, Any]]:
    """The same; more than WIDTH features take several programs, each with all the scores."""
    width = min(MAX_WIDTH, max(16, triton.next_power_of_2(size)))
    (programs,), constants = forward_tiles(count, size, dtype)
    constants |= {"COLUMNS": BACKWARD_COLUMNS, "WIDTH": width}
    return (programs, triton.cdiv(size, width)), constants


def builds() -> list[KernelBuild]:
    """Every kernel in every dtype, the backward of either side."""
    found = []
    scalars = {"count": "i32", "units": "i32", "scale": "fp32"}
    for dtype, size in (("fp32", 128), ("fp16", 35), ("bf16", 100)):
        pointer = f"*{dtype}"
        forward = {
            "queries": pointer, "keys": pointer, "losses": pointer, "normalisers": "*fp32",
            **scalars,
        }  # fmt: skip
        backward = {
            "grad_out": pointer, "mine": pointer, "others": pointer, "normalisers": "*fp32",
            "gradient": pointer, **scalars,
        }  # fmt: skip
        launches: list[tuple[str, Any, dict[str, Any], dict[str, Any]]] = [
            ("forward", info_nce_forward, forward, forward_tiles(256, size, DTYPE_NAMES[dtype])[1])
        ]
        for side, of_keys in (("queries", False), ("keys", True)):
            constants = {**backward_tiles(256, size, DTYPE_NAMES[dtype])[1], "OF_KEYS": of_keys}
            launches.append((f"backward of {side}", info_nce_backward, backward, constants))
        found += [
            KernelBuild(
                f"info_nce, {dtype}, size {size}, {name}", kernel, signature, constants, NUM_WARPS
            )
            for name, kernel, signature, constants in launches
        ]
    return found
