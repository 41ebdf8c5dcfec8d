"""What the attention kernels share: which pair a program works on, where it reads, its scores.

A launch serves any number of pairs, `cross_attention` being one pair. Everything that differs from
pair to pair comes in tuples, one entry a pair, and a program takes its own entry by a chain of
selections. That keeps one copy of the loops in the code, whatever the number of pairs, keeps the
alignment of pointers known to the compiler, and needs no table in device memory, which would have
to be copied there before every launch and could not be captured in a CUDA graph.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fusionkit.ops.triton_runtime import INTERPRETING

# The interpreter multiplies the bits of bfloat16 as whole numbers.
WIDENS = tl.constexpr(INTERPRETING)
LOG2E = tl.constexpr(1.4426950408889634)
# Of a query and a value. Their addresses and masks would fill the registers if the compiler kept
# them from one round of the loop to the next.
MANY_READS = tl.constexpr(64)

# Places in a pair's numbers, as `triton_launch` writes them: sizes, four strides of the bias, and
# three strides (batch, head, step) of each tensor that the kernel takes.
FIRST = tl.constexpr(0)
HEADS = tl.constexpr(1)
QUERIES = tl.constexpr(2)
KEYS = tl.constexpr(3)
DIM = tl.constexpr(4)
VALUE_DIM = tl.constexpr(5)
ALL_ROWS = tl.constexpr(6)
BIAS = tl.constexpr(7)
TENSORS = tl.constexpr(11)


@triton.jit
def chosen(options, pair):
    """The pair's pointer or scale."""
    found = options[0]
    for i in tl.static_range(1, len(options)):
        found = tl.where(pair == i, options[i], found)
    return found


@triton.jit
def work_item(numbers, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    """What the program works on: its pair, the pair's numbers, batch, head and first step.

    The work items of the pairs lie one after the other in the grid. STEPS says which number of the
    pair counts the steps that are cut into tiles of BLOCK.
    """
    program = tl.program_id(0)
    pair = 0
    for i in tl.static_range(1, len(numbers)):
        pair += (program >= ((numbers[i][FIRST] - 3) >> 1)).to(tl.int32)
    own = ()
    for j in tl.static_range(len(numbers[0])):
        found = numbers[0][j]
        for i in tl.static_range(1, len(numbers)):
            found = tl.where(pair == i, numbers[i][j], found)
        # See `triton_launch.encoded`.
        # Triton cannot unpack inside a tuple.
        own = own + ((found - 3) >> 1,)  # type: ignore[assignment]  # noqa: RUF005
    index = program - own[FIRST]
    tiles = (own[STEPS] + BLOCK - 1) // BLOCK
    row = index // tiles
    return pair, own, row // own[HEADS], row % own[HEADS], (index % tiles) * BLOCK


@triton.jit
def valid_steps(lengths, pair, batch, steps):
    """Of a sample: its length where there are lengths, at most ``steps``."""
    if lengths is None:
        found = steps
    else:
        length = tl.load(chosen(lengths, pair) + batch)
        found = tl.minimum(length, steps).to(tl.int32)
    return found


@triton.jit
def sequence(pointers, numbers, pair, batch, head, TENSOR: tl.constexpr, UNIT: tl.constexpr):
    """Where the steps of one head begin and how far apart they are.

    Strides, and dims, come in UNIT elements: a factor that the compiler sees lets it read several
    elements at once.
    """
    at: tl.constexpr = TENSORS + 3 * TENSOR
    for_batch = batch.to(tl.int64) * numbers[at]
    for_head = head.to(tl.int64) * numbers[at + 1]
    start = chosen(pointers, pair) + (for_batch + for_head) * UNIT
    return start, numbers[at + 2] * UNIT


@triton.jit
def _places(start, step, first, there, size, STEPS: tl.constexpr, SIZE: tl.constexpr):
    step_index, column = tl.arange(0, STEPS), tl.arange(0, SIZE)
    places = start + first * step.to(tl.int64) + (step_index[:, None] * step + column[None, :])
    return places, there[:, None] & (column < size)[None, :]


@triton.jit
def load_steps(start, step, first, there, size, STEPS: tl.constexpr, SIZE: tl.constexpr):
    """(STEPS, SIZE) from step ``first`` on; zeros, unread, where a step is not ``there``."""
    places, mask = _places(start, step, first, there, size, STEPS, SIZE)
    return tl.load(places, mask=mask, other=0.0)


@triton.jit
def store_steps(tile, start, step, first, there, size, STEPS: tl.constexpr, SIZE: tl.constexpr):
    """The counterpart of `load_steps`."""
    places, mask = _places(start, step, first, there, size, STEPS, SIZE)
    tl.store(places, tile, mask=mask)


@triton.jit
def row_sums_of(row_sums, numbers, pair, batch, head):
    """Where the largest scores of a head's rows stand, and where their sums."""
    row = (batch.to(tl.int64) * numbers[HEADS] + head) * numbers[QUERIES]
    largest = chosen(row_sums, pair) + row
    return largest, largest + numbers[ALL_ROWS]


@triton.jit
def kept(
    seed, threshold, batch, head, first_row, first_key,
    ROWS: tl.constexpr, KEY_STEPS: tl.constexpr, KEYS_FIRST: tl.constexpr,
):  # fmt: skip
    """(ROWS, KEY_STEPS) bool, or transposed: `fusionkit.ops.philox.keep_mask`."""
    row = first_row + tl.arange(0, ROWS)
    group = first_key // 4 + tl.arange(0, KEY_STEPS // 4)
    if KEYS_FIRST:
        zero = tl.zeros([KEY_STEPS // 4, ROWS], tl.int32)
        row, group = row[None, :], group[:, None]
    else:
        zero = tl.zeros([ROWS, KEY_STEPS // 4], tl.int32)
        row, group = row[:, None], group[None, :]
    a, b, c, d = tl.philox(tl.load(seed), group + zero, row + zero, head + zero, batch + zero)
    least = threshold.to(tl.uint32)
    keep = tl.join(tl.join(a >= least, c >= least), tl.join(b >= least, d >= least))
    if KEYS_FIRST:
        keep = tl.reshape(tl.permute(keep, (0, 2, 3, 1)), [KEY_STEPS, ROWS])
    else:
        keep = tl.reshape(keep, [ROWS, KEY_STEPS])
    return keep


@triton.jit
def product(left, right, total, PRECISION: tl.constexpr):
    """``left @ right + total``, in float32."""
    if WIDENS:
        left, right = left.to(tl.float32), right.to(tl.float32)
    return tl.dot(left, right, total, input_precision=PRECISION)


@triton.jit
def score_places(
    start, row_step, key_step,
    ROWS: tl.constexpr, KEY_STEPS: tl.constexpr, KEYS_FIRST: tl.constexpr,
):  # fmt: skip
    """Pointers to the tile of a (Tq, Tk) matrix that begins there, or to its transpose."""
    row, key = tl.arange(0, ROWS) * row_step, tl.arange(0, KEY_STEPS) * key_step
    if KEYS_FIRST:
        places = start + (key[:, None] + row[None, :])
    else:
        places = start + (row[:, None] + key[None, :])
    return places


@triton.jit
def scores_of(
    left, right, scale, biases, numbers, pair, batch, head, first_row, first_key, there,
    ROWS: tl.constexpr, KEY_STEPS: tl.constexpr, KEYS_FIRST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Scores in float32 of every step of ``left`` with every one of ``right``."""
    scores = product(left, tl.trans(right), None, PRECISION) * scale
    if biases is not None:
        start = (
            chosen(biases, pair)
            + batch.to(tl.int64) * numbers[BIAS]
            + head.to(tl.int64) * numbers[BIAS + 1]
        )
        row_step, key_step = numbers[BIAS + 2], numbers[BIAS + 3]
        start += first_row * row_step.to(tl.int64) + first_key * key_step.to(tl.int64)
        places = score_places(start, row_step, key_step, ROWS, KEY_STEPS, KEYS_FIRST)
        scores += tl.load(places, mask=there, other=0.0).to(tl.float32)
    return scores
