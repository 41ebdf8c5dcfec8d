"""Cross-attention backward on a GPU: a launch over query rows, then one over keys; no atomics.

Both make the weights anew from the row sums of the forward pass.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fusionkit.ops.cross_attention.triton_parts import (
    DIM,
    HEADS,
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
    score_places,
    scores_of,
    sequence,
    store_steps,
    valid_steps,
    work_item,
)


@triton.jit(do_not_specialize=["threshold", "factor"])
def attention_backward_rows(
    queries, keys, values, biases, outs, grad_outs, grad_queries, grad_biases, row_sums, deltas,
    key_lengths, query_lengths, seeds, scales, numbers, threshold, factor,
    ROWS: tl.constexpr, KEY_STEPS: tl.constexpr, SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program makes the gradients of ROWS query rows and of the scores in them, if asked for.

    grad_biases are (B, H, Tq, Tk), contiguous, and hold zeros. deltas, (B, H, Tq), are written for
    the launch over the keys: the products of a row's output and its gradient.
    """
    pair, own, batch, head, first_row = work_item(numbers, QUERIES, ROWS)
    num_queries, num_keys = own[QUERIES], own[KEYS]
    dim, value_dim = own[DIM] * UNIT, own[VALUE_DIM] * UNIT
    valid_rows = valid_steps(query_lengths, pair, batch, num_queries)
    valid_keys = valid_steps(key_lengths, pair, batch, num_keys)

    row = first_row + tl.arange(0, ROWS)
    in_queries, valid = row < num_queries, row < valid_rows
    largests, totals = row_sums_of(row_sums, own, pair, batch, head)
    largest = tl.load(largests + row, mask=valid, other=0.0)
    total = tl.load(totals + row, mask=valid, other=0.0)
    # What arrives at rows without a result counts for nothing, NaN too.
    alive = valid & (total != 0.0)
    share = 1.0 / tl.where(alive, total, 1.0)
    start, step = sequence(outs, own, pair, batch, head, 3, UNIT)
    out = load_steps(start, step, first_row, alive, value_dim, ROWS, VALUE_SIZE)
    start, step = sequence(grad_outs, own, pair, batch, head, 4, UNIT)
    grad_out = load_steps(start, step, first_row, alive, value_dim, ROWS, VALUE_SIZE)
    delta = tl.sum(grad_out.to(tl.float32) * out.to(tl.float32), 1)
    delta_start, _ = row_sums_of(deltas, own, pair, batch, head)
    tl.store(delta_start + row, delta, mask=in_queries)

    if (grad_queries is not None) or (grad_biases is not None):
        scale = chosen(scales, pair)
        key_start, key_step = sequence(keys, own, pair, batch, head, 1, UNIT)
        value_start, value_step = sequence(values, own, pair, batch, head, 2, UNIT)
        start, step = sequence(queries, own, pair, batch, head, 0, UNIT)
        query = load_steps(start, step, first_row, valid, dim, ROWS, SIZE)
        grad_query = tl.zeros([ROWS, SIZE], tl.float32)
        stop = tl.where(first_row < valid_rows, valid_keys, 0)
        for first_key in tl.range(
            0, stop, KEY_STEPS, disable_licm=(SIZE + VALUE_SIZE) // UNIT >= MANY_READS
        ):
            key_index = first_key + tl.arange(0, KEY_STEPS)
            in_keys = key_index < valid_keys
            both = alive[:, None] & in_keys[None, :]
            key = load_steps(key_start, key_step, first_key, in_keys, dim, KEY_STEPS, SIZE)
            scores = scores_of(
                query, key, scale, biases, own, pair, batch, head, first_row, first_key,
                both, ROWS, KEY_STEPS, False, PRECISION,
            )  # fmt: skip
            weights = tl.exp2((scores - largest[:, None]) * LOG2E) * share[:, None]
            weights = tl.where(both, weights, 0.0)
            value = load_steps(
                value_start, value_step, first_key, in_keys, value_dim, KEY_STEPS, VALUE_SIZE
            )
            grad_weights = product(grad_out, tl.trans(value), None, PRECISION)
            if seeds is not None:
                keep = kept(
                    chosen(seeds, pair), threshold, batch, head, first_row, first_key,
                    ROWS, KEY_STEPS, False,
                )  # fmt: skip
                grad_weights = tl.where(keep, grad_weights * factor, 0.0)
            grad_scores = weights * (grad_weights - delta[:, None])
            if grad_biases is not None:
                matrix = batch.to(tl.int64) * own[HEADS] + head
                corner = chosen(grad_biases, pair) + (matrix * num_queries + first_row) * num_keys
                places = score_places(corner + first_key, num_keys, 1, ROWS, KEY_STEPS, False)
                tl.store(places, grad_scores, mask=both)
            if grad_queries is not None:
                grad_query = product(grad_scores.to(key.dtype), key, grad_query, PRECISION)
        if grad_queries is not None:
            # A key of NaN reaches the rows that have a result, and no others.
            grad_query = tl.where(alive[:, None], grad_query * scale, 0.0)
            start, step = sequence(grad_queries, own, pair, batch, head, 5, UNIT)
            store_steps(grad_query, start, step, first_row, in_queries, dim, ROWS, SIZE)


@triton.jit(do_not_specialize=["threshold", "factor"])
def attention_backward_keys(
    queries, keys, values, biases, grad_outs, grad_keys, grad_values, row_sums, deltas,
    key_lengths, query_lengths, seeds, scales, numbers, threshold, factor,
    ROWS: tl.constexpr, KEY_STEPS: tl.constexpr, SIZE: tl.constexpr, VALUE_SIZE: tl.constexpr,
    UNIT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program makes the gradients of KEY_STEPS keys and values, those that are asked for.

    It holds scores and weights with the keys along the first axis, so that they go into the
    products as they come out of others.
    """
    pair, own, batch, head, first_key = work_item(numbers, KEYS, KEY_STEPS)
    num_queries, num_keys = own[QUERIES], own[KEYS]
    dim, value_dim = own[DIM] * UNIT, own[VALUE_DIM] * UNIT
    valid_rows = valid_steps(query_lengths, pair, batch, num_queries)
    valid_keys = valid_steps(key_lengths, pair, batch, num_keys)
    scale = chosen(scales, pair)
    query_start, query_step = sequence(queries, own, pair, batch, head, 0, UNIT)
    grad_start, grad_step = sequence(grad_outs, own, pair, batch, head, 3, UNIT)
    largests, totals = row_sums_of(row_sums, own, pair, batch, head)

    key_index = first_key + tl.arange(0, KEY_STEPS)
    in_keys = key_index < valid_keys
    start, step = sequence(keys, own, pair, batch, head, 1, UNIT)
    key = load_steps(start, step, first_key, in_keys, dim, KEY_STEPS, SIZE)
    if grad_keys is not None:
        delta_start, _ = row_sums_of(deltas, own, pair, batch, head)
        start, step = sequence(values, own, pair, batch, head, 2, UNIT)
        value = load_steps(start, step, first_key, in_keys, value_dim, KEY_STEPS, VALUE_SIZE)
    grad_key = tl.zeros([KEY_STEPS, SIZE], tl.float32)
    grad_value = tl.zeros([KEY_STEPS, VALUE_SIZE], tl.float32)
    stop = tl.where(first_key < valid_keys, valid_rows, 0)
    for first_row in tl.range(
        0, stop, ROWS, disable_licm=(SIZE + VALUE_SIZE) // UNIT >= MANY_READS
    ):
        row = first_row + tl.arange(0, ROWS)
        valid = row < valid_rows
        largest = tl.load(largests + row, mask=valid, other=0.0)
        total = tl.load(totals + row, mask=valid, other=0.0)
        alive = valid & (total != 0.0)
        share = 1.0 / tl.where(alive, total, 1.0)
        both = in_keys[:, None] & alive[None, :]
        query = load_steps(query_start, query_step, first_row, valid, dim, ROWS, SIZE)
        scores = scores_of(
            key, query, scale, biases, own, pair, batch, head, first_row, first_key,
            both, ROWS, KEY_STEPS, True, PRECISION,
        )  # fmt: skip
        weights = tl.exp2((scores - largest[None, :]) * LOG2E) * share[None, :]
        weights = tl.where(both, weights, 0.0)
        dropped = weights
        if seeds is not None:
            keep = kept(
                chosen(seeds, pair), threshold, batch, head, first_row, first_key,
                ROWS, KEY_STEPS, True,
            )  # fmt: skip
            dropped = tl.where(keep, weights, 0.0)
        grad_out = load_steps(grad_start, grad_step, first_row, alive, value_dim, ROWS, VALUE_SIZE)
        if grad_values is not None:
            grad_value = product(dropped.to(grad_out.dtype), grad_out, grad_value, PRECISION)
        if grad_keys is not None:
            grad_weights = product(value, tl.trans(grad_out), None, PRECISION)
            if seeds is not None:
                grad_weights = tl.where(keep, grad_weights * factor, 0.0)
            delta = tl.load(delta_start + row, mask=alive, other=0.0)
            grad_scores = weights * (grad_weights - delta[None, :])
            grad_key = product(grad_scores.to(query.dtype), query, grad_key, PRECISION)

    # A row of NaN reaches the keys that count, and no others.
    in_all = key_index < num_keys
    if grad_keys is not None:
        grad_key = tl.where(in_keys[:, None], grad_key * scale, 0.0)
        start, step = sequence(grad_keys, own, pair, batch, head, 4, UNIT)
        store_steps(grad_key, start, step, first_key, in_all, dim, KEY_STEPS, SIZE)
    if grad_values is not None:
        grad_value = tl.where(in_keys[:, None], grad_value * factor, 0.0)
        start, step = sequence(grad_values, own, pair, batch, head, 5, UNIT)
        store_steps(grad_value, start, step, first_key, in_all, value_dim, KEY_STEPS, VALUE_SIZE)
