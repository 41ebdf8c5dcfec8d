"""Several cross-attentions in one launch of the CUDA kernels: to the bit what single calls give."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import torch

from fusionkit.ops import AttentionPair, cross_attention_pairs
from fusionkit.ops.cross_attention_pairs.cuda import pairs_reasons, pairs_slower_reasons
from fusionkit.ops.cuda_runtime import EMULATED

import cuda_emulated
from attention_devices import normal
from fuzz import blocks
from on_cuda import DEVICE, runs
from pairs_checks import (
    assert_same_bits,
    check_accuracy,
    check_bits_of_single_calls,
    check_compiled,
    check_empty_axes,
    check_numeric_gradients,
    check_operators,
    check_shared_tensors,
    check_tracing,
    check_wanted_gradients,
    draw_cases,
    several,
    with_gradients,
)

ORDERS = ("forward", "reverse", "shuffled")
SIZES = [(2, 2, 21, 33, 10, 10), (2, 2, 33, 21, 10, 12), (3, 1, 5, 70, 40, 40), (1, 3, 9, 4, 9, 3)]
"""(B, H, Tq, Tk, D, Dv)"""


@runs
@pytest.mark.parametrize("seeds", blocks(0.03))
def test_fuzz(monkeypatch: pytest.MonkeyPatch, unwritten_is_nan: None, seeds: range) -> None:
    for seed in seeds:
        monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", ORDERS[seed % 3])
        check_accuracy("cuda", DEVICE, *draw_cases(seed, 128))


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lengths", [False, True], ids=["nolengths", "lengths"])
@pytest.mark.parametrize("options", [{}, {"scale": 0.7}, {"dropout_p": 0.4}], ids=str)
def test_outputs_and_gradients_of_single_calls(
    unwritten_is_nan: None, options: dict[str, float], lengths: bool, dtype: torch.dtype
) -> None:
    pairs = several(DEVICE, SIZES, lengths=lengths, dtype=dtype)
    check_bits_of_single_calls("cuda", pairs, **options)


@runs
def test_the_same_bits_in_any_order_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for order in ORDERS:
        monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", order)
        pairs = several(DEVICE, SIZES)
        results.append(with_gradients(cross_attention_pairs, "cuda", pairs, dropout_p=0.2))
    for other in results[1:]:
        assert_same_bits(results[0], other)


@runs
def test_more_pairs_than_one_launch_takes() -> None:
    pairs = [
        AttentionPair(
            *(normal(1, 1, n, 3, seed=n + i, device=DEVICE).requires_grad_() for i in range(3))
        )
        for n in range(1, 28)
    ]
    check_bits_of_single_calls("cuda", pairs)


@runs
def test_pairs_with_empty_axes(unwritten_is_nan: None) -> None:
    check_empty_axes("cuda", DEVICE)


@runs
def test_tensors_shared_by_pairs_sum_their_gradients() -> None:
    check_shared_tensors("cuda", DEVICE, (5, 9, 14))


@runs
def test_gradients_where_some_are_wanted_and_some_outputs_are_used() -> None:
    check_wanted_gradients("cuda", several(DEVICE, SIZES))


@runs
def test_gradients_numerically() -> None:
    check_numeric_gradients("cuda", DEVICE)


@runs
def test_opcheck() -> None:
    check_operators("cuda", DEVICE)


@runs
def test_compiled_in_one_graph() -> None:
    check_compiled("cuda", DEVICE)


def test_traced_without_a_device() -> None:
    check_tracing("cuda")


@runs
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": [1]}, "key must hold 2 entries, one a pair, got 1"),
        ({"value": [1, 1, 1]}, "value must hold 2 entries, one a pair, got 3"),
        ({"key_lengths": [torch.tensor([1, 2])]}, "key_lengths must hold 2 entries"),
        ({"scale": [1.0]}, "scale must hold 2 entries"),
        ({"dropout_p": 0.5}, "seed is required"),
        ({"query": [0, 0], "key": [1, 0]}, "value must have size 3 on axis 2"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else None,
)
def test_raw_operator_checks_its_inputs(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": [0, 0], "key": [1, 1], "value": [1, 1], "key_lengths": [], "query_lengths": [],
        "scale": [1.0, 1.0], "dropout_p": 0.0, "seed": [], **change,
    }  # fmt: skip
    sizes = [torch.zeros(2, 2, steps, 4, device=DEVICE) for steps in (3, 5)]
    for name in ("query", "key", "value"):
        arguments[name] = [sizes[which] for which in arguments[name]]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit_cuda.cross_attention_pairs(**arguments)


def test_what_it_does_not_take() -> None:
    x, y = torch.ones(1, 1, 2, 3), torch.ones(1, 1, 2, 3, dtype=torch.half)
    reasons = pairs_reasons([AttentionPair(x, x, x), AttentionPair(y, y, y)])
    assert any(reason.startswith("pairs[1]: dtype is torch.float16") for reason in reasons)
    assert any("is on cpu" in reason for reason in reasons) == (not EMULATED)


def test_single_calls_are_preferred_where_each_of_them_is_better_elsewhere() -> None:
    long, short = (torch.empty(1, 1, steps, 32, dtype=torch.half) for steps in (512, 50))
    pairs = [AttentionPair(long, long, long)] * 2
    assert [reason[:9] for reason in pairs_slower_reasons(pairs)] == ["pairs[0]:", "pairs[1]:"]
    assert not pairs_slower_reasons([*pairs, AttentionPair(short, short, short)])


@pytest.mark.skipif(not EMULATED, reason="runs with FUSIONKIT_CUDA_ON_CPU=1")
def test_every_item_has_one_block_and_the_longest_come_first() -> None:
    """(pair, role, cost of a block, heads of all samples, tiles) and the heads of each pair."""
    works = [(0, 0, 5, 6, 2), (1, 0, 50, 4, 3), (2, 0, 7, 0, 9), (0, 1, 6, 6, 1), (1, 1, 5, 4, 1)]
    heads = [3, 2, 1]
    numbers = [len(works), *(x for work in works for x in work), *heads]
    source = cuda_emulated.EMULATOR / "attention_work.cpp"
    call = [str(cuda_emulated.program(source)), *map(str, numbers)]
    lines = subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()
    items = [tuple(map(int, line.split())) for line in lines]
    wanted = {
        (pair, role, head // heads[pair], head % heads[pair], tile)
        for pair, role, _, all_heads, tiles in works
        for head in range(all_heads)
        for tile in range(tiles)
    }
    assert set(items) == wanted and len(items) == len(wanted)
    costs = {(pair, role): cost for pair, role, cost, _, _ in works}
    found = [costs[pair, role] for pair, role, *_ in items]
    assert found == sorted(found, reverse=True)
