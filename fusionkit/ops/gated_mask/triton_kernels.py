"""The gated mask on a GPU: one launch forward, one launch backward, one pass over memory each.

Without dropout a program takes BLOCK consecutive numbers, in vectors of 16 bytes, whatever the
rows. With dropout it takes ROWS x COLUMNS of them, because one call of the generator serves four
columns of one row.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from fusionkit.ops.triton_runtime import DTYPE_NAMES, KernelBuild, unit_of, vector_of

BLOCK = 1024
NUM_WARPS = 4
MAX_COLUMNS = 128
NUMBERS = ["rows", "steps", "units", "threshold", "factor"]


@triton.jit
def _vectors(
    lengths, rows, steps, size, WHOLE: tl.constexpr,
    HAS_LENGTHS: tl.constexpr, BLOCK: tl.constexpr, VECTOR: tl.constexpr, UNIT: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Offsets of the program's vectors; what of them is there, is read, and counts.

    The compiler reads and writes a vector at once where it sees one mask for all of it. So a vector
    is read if any of it may count, and a program that is WHOLE does not look for the end.
    """
    program = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    first = program * BLOCK + tl.arange(0, BLOCK // VECTOR)[:, None] * VECTOR
    offset = first + tl.arange(0, VECTOR)[None, :]
    total = rows.to(first.dtype) * size
    there = tl.full(offset.shape, True, tl.int1) if WHOLE else offset < total
    read, counts = there, there
    if HAS_LENGTHS:
        of_sample = steps.to(first.dtype) * size
        start = first // of_sample * of_sample
        after = start + of_sample
        length = tl.load(lengths + first // of_sample, mask=first < total, other=0)
        end = tl.minimum(start + length * size, after)
        read = there & (first < end)
        counts = read
        if UNIT % VECTOR:
            # The next sample may begin inside of a vector, but no third one.
            length = tl.load(lengths + after // of_sample, mask=after < total, other=0)
            counts = (offset < end) | ((offset >= after) & (offset < after + length * size))
            counts = there & counts
            read = there & ((first < end) | (first + VECTOR > after))
    return offset, there, read, counts


@triton.jit
def _rectangle(
    lengths, rows, steps, size,
    HAS_LENGTHS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """The same for ROWS x COLUMNS numbers."""
    program = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    row = program * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    there = (row < rows) & (column < size)
    counts = there
    if HAS_LENGTHS:
        length = tl.load(lengths + row // steps, mask=row < rows, other=0)
        counts = there & (row % steps < length)
    return row * size + column, there, counts, counts


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


@triton.jit
def _is_whole(rows, size, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """Whether all of the program's numbers are there."""
    program = tl.program_id(0).to(tl.int64) if WIDE else tl.program_id(0)
    return (program + 1) * BLOCK <= rows.to(program.dtype) * size


@triton.jit
def _forward(x, gates, out, places, share):
    offset, there, read, counts = places
    mask = tl.zeros(offset.shape, tl.float32)
    for i in tl.static_range(len(gates)):
        mask += tl.sigmoid(tl.load(gates[i] + offset, mask=read, other=0.0).to(tl.float32))
    result = tl.load(x + offset, mask=read, other=0.0).to(tl.float32) * (mask / len(gates)) * share
    tl.store(out + offset, tl.where(counts, result, 0.0), mask=there)


@triton.jit
def _backward(grad_out, x, gates, grad_x, grad_gates, places, share, NEEDS: tl.constexpr):
    offset, there, read, counts = places
    grad = tl.load(grad_out + offset, mask=read, other=0.0).to(tl.float32) / len(gates) * share
    if NEEDS > 1:
        for_gates = grad * tl.load(x + offset, mask=read, other=0.0).to(tl.float32)
    total = tl.zeros(offset.shape, tl.float32)
    for i in tl.static_range(len(gates)):
        if (NEEDS & 1) or (NEEDS >> (i + 1)) & 1:
            gate = tl.load(gates[i] + offset, mask=read, other=0.0).to(tl.float32)
            sigmoid = tl.sigmoid(gate)
            total += sigmoid
            if (NEEDS >> (i + 1)) & 1:
                # 1 - sigmoid would cancel where it is near 1.
                grad_gate = for_gates * (sigmoid * tl.sigmoid(-gate))
                tl.store(grad_gates[i] + offset, tl.where(counts, grad_gate, 0.0), mask=there)
    if NEEDS & 1:
        tl.store(grad_x + offset, tl.where(counts, grad * total, 0.0), mask=there)


@triton.jit(do_not_specialize=NUMBERS)
def gated_mask_forward(
    x, gates, out, lengths, seed,
    rows, steps, units, threshold, factor,
    HAS_LENGTHS: tl.constexpr, BLOCK: tl.constexpr, VECTOR: tl.constexpr, UNIT: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """A row has ``units`` times UNIT numbers."""
    size = units * UNIT
    if COLUMNS > 0:
        places = _rectangle(lengths, rows, steps, size, HAS_LENGTHS, ROWS, COLUMNS, WIDE)
        share = _kept(seed, threshold, factor, steps, ROWS, COLUMNS, WIDE)
        _forward(x, gates, out, places, share)
    elif _is_whole(rows, size, BLOCK, WIDE):
        places = _vectors(lengths, rows, steps, size, True, HAS_LENGTHS, BLOCK, VECTOR, UNIT, WIDE)
        _forward(x, gates, out, places, 1.0)
    else:
        places = _vectors(lengths, rows, steps, size, False, HAS_LENGTHS, BLOCK, VECTOR, UNIT, WIDE)
        _forward(x, gates, out, places, 1.0)


@triton.jit(do_not_specialize=NUMBERS)
def gated_mask_backward(
    grad_out, x, gates, grad_x, grad_gates, lengths, seed,
    rows, steps, units, threshold, factor,
    HAS_LENGTHS: tl.constexpr, NEEDS: tl.constexpr, BLOCK: tl.constexpr, VECTOR: tl.constexpr,
    UNIT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Bit 0 of NEEDS asks for the gradient of x, bit 1 + i for that of gate i."""
    size = units * UNIT
    if COLUMNS > 0:
        places = _rectangle(lengths, rows, steps, size, HAS_LENGTHS, ROWS, COLUMNS, WIDE)
        share = _kept(seed, threshold, factor, steps, ROWS, COLUMNS, WIDE)
        _backward(grad_out, x, gates, grad_x, grad_gates, places, share, NEEDS)
    elif _is_whole(rows, size, BLOCK, WIDE):
        places = _vectors(lengths, rows, steps, size, True, HAS_LENGTHS, BLOCK, VECTOR, UNIT, WIDE)
        _backward(grad_out, x, gates, grad_x, grad_gates, places, 1.0, NEEDS)
    else:
        places = _vectors(lengths, rows, steps, size, False, HAS_LENGTHS, BLOCK, VECTOR, UNIT, WIDE)
        _backward(grad_out, x, gates, grad_x, grad_gates, places, 1.0, NEEDS)


def tiles(
    batch: int, steps: int, size: int, dtype: torch.dtype, *, dropout: bool, lengths: bool
) -> tuple[tuple[int, int], dict[str, Any]]:
    """The grid and the constants of a launch over (batch, steps, size) numbers."""
    rows, unit, vector = batch * steps, unit_of(dtype, size), vector_of(dtype)
    # Offsets are computed up to the end of a sample after the last one.
    wide = (rows + steps) * size >= 2**31 - BLOCK
    constants: dict[str, Any] = {"HAS_LENGTHS": lengths, "WIDE": wide}
    if dropout:
        columns = min(MAX_COLUMNS, max(4, triton.next_power_of_2(size)))
        rectangle = {"ROWS": BLOCK // columns, "COLUMNS": columns}
        constants |= {**rectangle, "BLOCK": 0, "VECTOR": 0, "UNIT": unit}
        return (triton.cdiv(rows, BLOCK // columns), triton.cdiv(size, columns)), constants
    if lengths and steps * size < vector:
        vector = 1
    # One build serves all sizes; with lengths, one more those that vectors divide.
    unit = vector if lengths and unit >= vector else 1
    constants |= {"ROWS": 0, "COLUMNS": 0, "BLOCK": BLOCK, "VECTOR": vector, "UNIT": unit}
    return (triton.cdiv(rows * size, BLOCK), 1), constants


def build(
    kind: str, dtype: str, size: int, *, gates: int = 2, dropout: bool = False,
    lengths: bool = True, wide: bool = False, needs: int | None = None,
) -> KernelBuild:  # fmt: skip
    """The ``forward`` or ``backward`` kernel for rows of ``size`` numbers, and what the flags say.

    needs: of which gradients; all if None.
    """
    pointer = f"*{dtype}"
    several = (pointer,) * gates
    batch = 2**27 if wide else 4
    _, constants = tiles(batch, 16, size, DTYPE_NAMES[dtype], dropout=dropout, lengths=lengths)
    signature: dict[str, Any] = {"x": pointer, "gates": several}
    if kind == "forward":
        signature["out"] = pointer
    else:
        signature |= {"grad_out": pointer, "grad_x": pointer, "grad_gates": several}
        constants["NEEDS"] = 2 ** (gates + 1) - 1 if needs is None else needs
    signature |= dict.fromkeys(("rows", "steps", "units"), "i32")
    signature |= {"threshold": "i64", "factor": "fp32"}
    for name, there in (("lengths", lengths), ("seed", dropout)):
        if there:
            signature[name] = "*i64"
        else:
            constants[name] = None
    flags = {"dropout": dropout, "lengths": lengths, "wide": wide}
    parts = [f"gated_mask_{kind}", dtype, f"size {size}", f"{gates} gates"]
    parts += [flag for flag, on in flags.items() if on]
    kernel = gated_mask_forward if kind == "forward" else gated_mask_backward
    return KernelBuild(", ".join(parts), kernel, signature, constants, NUM_WARPS)


def builds() -> list[KernelBuild]:
    """What the compiler is asked for, with few and with many gates."""
    found = []
    for kind in ("forward", "backward"):
        for dtype in ("fp32", "bf16"):
            found += [
                build(kind, dtype, 300, lengths=False),
                build(kind, dtype, 304, gates=1),
                build(kind, dtype, 35, gates=8),
                build(kind, dtype, 304, dropout=True),
                build(kind, dtype, 35, gates=8, dropout=True, wide=True),
            ]
        found.append(build(kind, "fp16", 74))
    return found
