"""Cross-attention forward on a GPU: one launch, softmax on the way over the valid keys."""

from __future__ import annotations

import triton
import triton.language as tl

from fusionkit.ops.cross_attention.triton_parts import (
    DIM,
    KEYS,
    LOG2E,
    MANY_READS,
    QUERIES,
    VALUE_DIM,
    chosen,
    kept,
    load_steps,
    product,
    row_sums_of,
    scores_of,
    sequence,
    store_steps,
    valid_steps,
    work_item,
)


@triton.jit(do_not_specialize=["threshold", "factor"])
def attention_forward(
    queries, keys, values, biases, outs, row_sums, key_lengths, query_lengths, seeds, scales,
    numbers, threshold, factor,
    ROWS: tl.constexpr, KEY_STEPS: tl.constexpr, SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program makes ROWS rows of one head of one pair.

    row_sums: of each row its largest score, and the sum of exp(score - largest). The largest is in
    natural units, since one of -3e38 would overflow in base 2.
    """
    pair, own, batch, head, first_row = work_item(numbers, QUERIES, ROWS)
    num_queries, num_keys = own[QUERIES], own[KEYS]
    dim, value_dim = own[DIM] * UNIT, own[VALUE_DIM] * UNIT
    valid_rows = valid_steps(query_lengths, pair, batch, num_queries)
    valid_keys = valid_steps(key_lengths, pair, batch, num_keys)
    scale = chosen(scales, pair)
    key_start, key_step = sequence(keys, own, pair, batch, head, 1, UNIT)
    value_start, value_step = sequence(values, own, pair, batch, head, 2, UNIT)

    row = first_row + tl.arange(0, ROWS)
    valid = row < valid_rows
    start, step = sequence(queries, own, pair, batch, head, 0, UNIT)
    query = load_steps(start, step, first_row, valid, dim, ROWS, SIZE)

    largest = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, VALUE_SIZE], tl.float32)
    stop = tl.where(first_row < valid_rows, valid_keys, 0)
    for first_key in tl.range(
        0, stop, KEY_STEPS, disable_licm=(SIZE + VALUE_SIZE) // UNIT >= MANY_READS
    ):
        key_index = first_key + tl.arange(0, KEY_STEPS)
        in_keys = key_index < valid_keys
        key = load_steps(key_start, key_step, first_key, in_keys, dim, KEY_STEPS, SIZE)
        scores = scores_of(
            query, key, scale, biases, own, pair, batch, head, first_row, first_key,
            valid[:, None] & in_keys[None, :], ROWS, KEY_STEPS, False, PRECISION,
        )  # fmt: skip
        scores = tl.where(in_keys[None, :], scores, float("-inf"))
        larger = tl.maximum(largest, tl.max(scores, 1))
        # Where all is -inf so far, -inf minus itself would be NaN.
        base = tl.where(larger == float("-inf"), 0.0, larger)
        weights = tl.exp2((scores - base[:, None]) * LOG2E)
        shrink = tl.exp2((largest - base) * LOG2E)
        total = total * shrink + tl.sum(weights, 1)
        if seeds is not None:
            keep = kept(
                chosen(seeds, pair), threshold, batch, head, first_row, first_key,
                ROWS, KEY_STEPS, False,
            )  # fmt: skip
            weights = tl.where(keep, weights, 0.0)
        value = load_steps(
            value_start, value_step, first_key, in_keys, value_dim, KEY_STEPS, VALUE_SIZE
        )
        mixed = product(weights.to(value.dtype), value, mixed * shrink[:, None], PRECISION)
        largest = larger

    # Without a key the sum is 0; with a NaN it is NaN, and stays.
    alive = valid & (total != 0.0)
    share = factor / tl.where(alive, total, 1.0)
    mixed = tl.where(alive[:, None], mixed * share[:, None], 0.0)
    in_queries = row < num_queries
    start, step = sequence(outs, own, pair, batch, head, 3, UNIT)
    store_steps(mixed, start, step, first_row, in_queries, value_dim, ROWS, VALUE_SIZE)
    largests, totals = row_sums_of(row_sums, own, pair, batch, head)
    tl.store(largests + row, tl.where(alive, largest, 0.0), mask=in_queries)
    tl.store(totals + row, tl.where(alive, total, 0.0), mask=in_queries)
