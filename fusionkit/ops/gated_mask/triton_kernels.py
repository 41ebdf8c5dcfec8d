"""The gated mask on a GPU: one launch forward, one launch backward, one pass over memory each.

Without dropout a program takes BLOCK consecutive numbers, whatever the rows. With dropout it takes
ROWS x COLUMNS of them, because one call of the generator serves four columns of one row.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl

from fusionkit.ops.triton_runtime import KernelBuild

BLOCK = 1024
NUM_WARPS = 4
MAX_COLUMNS = 128


@triton.jit
def _places(
    rows, size, BLOCK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Row and offset of the program's numbers, and which of them are there."""
    program = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    if COLUMNS == 0:
        offset = program * BLOCK + tl.arange(0, BLOCK)
        row = offset // size
        there = row < rows
    else:
        row = program * ROWS + tl.arange(0, ROWS)[:, None]
        column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        offset = row * size + column
        there = (row < rows) & (column < size)
    return row, offset, there


@triton.jit
def _kept(
    seed, threshold, factor, steps, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """(ROWS, COLUMNS) of 0 or ``factor``: `fusionkit.ops.philox.keep_mask`, head 0."""
    program = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    row = program * ROWS + tl.arange(0, ROWS)[:, None]
    group = tl.program_id(1) * (COLUMNS // 4) + tl.arange(0, COLUMNS // 4)[None, :]
    zero = tl.zeros([ROWS, COLUMNS // 4], tl.int32)
    batch, step = (row // steps).to(tl.int32), (row % steps).to(tl.int32)
    a, b, c, d = tl.philox(tl.load(seed), group + zero, step + zero, zero, batch + zero)
    words = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [ROWS, COLUMNS])
    return tl.where(words >= threshold.to(tl.uint32), factor, 0.0)


@triton.jit(do_not_specialize=["threshold", "factor"])
def gated_mask_forward(
    x, gates, out, lengths, seed,
    rows, steps, size, threshold, factor,
    HAS_LENGTHS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    row, offset, there = _places(rows, size, BLOCK, ROWS, COLUMNS, WIDE)
    valid = there
    if HAS_LENGTHS:
        length = tl.load(lengths + row // steps, mask=row < rows, other=0)
        valid = there & (row % steps < length)
    mask = tl.zeros(offset.shape, tl.float32)
    for i in tl.static_range(len(gates)):
        mask += tl.sigmoid(tl.load(gates[i] + offset, mask=valid, other=0.0).to(tl.float32))
    result = tl.load(x + offset, mask=valid, other=0.0).to(tl.float32) * (mask / len(gates))
    if COLUMNS > 0:
        result *= _kept(seed, threshold, factor, steps, ROWS, COLUMNS, WIDE)
    tl.store(out + offset, result, mask=there)


@triton.jit(do_not_specialize=["threshold", "factor"])
def gated_mask_backward(
    grad_out, x, gates, grad_x, grad_gates, lengths, seed,
    rows, steps, size, threshold, factor,
    HAS_LENGTHS: tl.constexpr, NEEDS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Bit 0 of NEEDS asks for the gradient of x, bit 1 + i for that of gate i."""
    row, offset, there = _places(rows, size, BLOCK, ROWS, COLUMNS, WIDE)
    valid = there
    if HAS_LENGTHS:
        length = tl.load(lengths + row // steps, mask=row < rows, other=0)
        valid = there & (row % steps < length)
    grad = tl.load(grad_out + offset, mask=valid, other=0.0).to(tl.float32) / len(gates)
    if COLUMNS > 0:
        grad *= _kept(seed, threshold, factor, steps, ROWS, COLUMNS, WIDE)
    if NEEDS > 1:
        for_gates = grad * tl.load(x + offset, mask=valid, other=0.0).to(tl.float32)
    total = tl.zeros(offset.shape, tl.float32)
    for i in tl.static_range(len(gates)):
        if (NEEDS & 1) or (NEEDS >> (i + 1)) & 1:
            gate = tl.load(gates[i] + offset, mask=valid, other=0.0).to(tl.float32)
            sigmoid = tl.sigmoid(gate)
            total += sigmoid
            if (NEEDS >> (i + 1)) & 1:
                # 1 - sigmoid would cancel where it is near 1.
                slope = sigmoid * tl.sigmoid(-gate)
                tl.store(grad_gates[i] + offset, for_gates * slope, mask=there)
    if NEEDS & 1:
        tl.store(grad_x + offset, grad * total, mask=there)


def tiles(rows: int, size: int, dropout: bool) -> tuple[tuple[int, int], dict[str, Any]]:
    """The grid and the constants of a launch over ``rows`` rows of ``size`` numbers."""
    wide = rows * size >= 2**31 - BLOCK
    if not dropout:
        constants = {"BLOCK": BLOCK, "ROWS": 0, "COLUMNS": 0, "WIDE": wide}
        return (triton.cdiv(rows * size, BLOCK), 1), constants
    columns = min(MAX_COLUMNS, max(4, triton.next_power_of_2(size)))
    constants = {"BLOCK": 0, "ROWS": BLOCK // columns, "COLUMNS": columns, "WIDE": wide}
    return (triton.cdiv(rows, constants["ROWS"]), triton.cdiv(size, columns)), constants


def builds() -> list[KernelBuild]:
    """Every kernel, with and without dropout, in every dtype, with few and with many gates."""
    found = []
    scalars = {"rows": "i32", "steps": "i32", "size": "i32", "threshold": "i64", "factor": "fp32"}
    for dtype in ("fp32", "fp16", "bf16"):
        for gates, dropout, wide in ((2, False, False), (2, True, False), (8, True, True)):
            pointer = f"*{dtype}"
            several = (pointer,) * gates
            inputs = {"x": pointer, "gates": several}
            rest = {"lengths": "*i64", "seed": "*i64", **scalars}
            constants = {**tiles(64, 300, dropout)[1], "WIDE": wide, "HAS_LENGTHS": True}
            name = f"{dtype}, {gates} gates" + (", dropout" if dropout else "")
            backward = {"grad_out": pointer, **inputs, "grad_x": pointer, "grad_gates": several}
            needs = {"NEEDS": 2 ** (gates + 1) - 1}
            found += [
                KernelBuild(
                    f"gated_mask_forward, {name}", gated_mask_forward,
                    {**inputs, "out": pointer, **rest}, constants, NUM_WARPS,
                ),
                KernelBuild(
                    f"gated_mask_backward, {name}", gated_mask_backward,
                    {**backward, **rest}, {**constants, **needs}, NUM_WARPS,
                ),
            ]  # fmt: skip
    return found
