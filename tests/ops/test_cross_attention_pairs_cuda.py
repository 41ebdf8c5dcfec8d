"""Several cross-attentions in one launch of the CUDA kernels: to the bit what single calls give."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs, force_backend
from fusionkit.ops.cross_attention_pairs.cuda import pairs_reasons, pairs_slower_reasons
from fusionkit.ops.cuda_runtime import EMULATED

import cuda_emulated
from attention_cases import NAN, lay_out
from attention_devices import moved
from on_cuda import DEVICE, runs


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SIZES = [(2, 2, 21, 33, 10, 10), (2, 2, 33, 21, 10, 12), (3, 1, 5, 70, 40, 40), (1, 3, 9, 4, 9, 3)]
LAYOUTS = ("heads_split", "every_second", "reversed_axes", "dense")


def several(lengths: bool = True, dtype: torch.dtype = torch.float32) -> list[AttentionPair]:
    """Of unlike sizes and layouts; NaN in the padding where there are lengths, in some pairs."""
    pairs = []
    for i, ((b, h, tq, tk, d, dv), layout) in enumerate(zip(SIZES, LAYOUTS)):
        query, key, value = (draw(b, h, *rest, seed=10 * i + j)
                             for j, rest in enumerate(((tq, d), (tk, d), (tk, dv))))  # fmt: skip
        keys = rows = None
        if lengths and i != 1:
            keys = torch.tensor([tk, 0, tk // 2])[:b]
            for n, *padded in zip(keys.tolist(), key, value):
                for x in padded:
                    x[:, n:] = NAN
        if lengths and i != 2:
            rows = torch.tensor([tq // 3, tq])[:b]
            query[0, :, tq // 3 :] = NAN
        query, key, value = (lay_out(x.to(dtype), layout) for x in (query, key, value))
        seed = (7, torch.tensor(-8), 2**50, -1)[i]
        pair = AttentionPair(query, key, value, keys, rows, seed)
        pairs.append(AttentionPair(*(moved(x, DEVICE) for x in pair)))
        for x in pairs[-1][:3]:
            x.requires_grad_()
    return pairs


def with_gradients(pairs: list[AttentionPair], together: bool, **options: Any) -> list[Tensor]:
    leaves = [x for pair in pairs for x in pair[:3]]
    with force_backend("cuda"):
        if together:
            outputs = cross_attention_pairs(pairs, **options)
        else:
            outputs = [
                cross_attention(
                    p.query, p.key, p.value, key_lengths=p.key_lengths,
                    query_lengths=p.query_lengths, seed=p.seed, **options,
                )
                for p in pairs
            ]  # fmt: skip
    upstream = [draw(*out.shape, seed=i).to(out) for i, out in enumerate(outputs)]
    return [*outputs, *torch.autograd.grad(outputs, leaves, upstream)]


def assert_same_bits(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert len(found) == len(wanted)
    for i, (a, b) in enumerate(zip(found, wanted)):
        assert a.dtype == b.dtype and a.isfinite().all() and a.equal(b), i


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lengths", [False, True], ids=["nolengths", "lengths"])
@pytest.mark.parametrize("options", [{}, {"scale": 0.7}, {"dropout_p": 0.4}], ids=str)
def test_outputs_and_gradients_of_single_calls(
    unwritten_is_nan: None, options: dict[str, float], lengths: bool, dtype: torch.dtype
) -> None:
    pairs = several(lengths, dtype)
    assert_same_bits(
        with_gradients(pairs, True, **options), with_gradients(pairs, False, **options)
    )


@runs
def test_the_same_bits_in_any_order_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    first = with_gradients(several(), True, dropout_p=0.2)
    for order in ("reverse", "shuffled"):
        monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", order)
        assert_same_bits(with_gradients(several(), True, dropout_p=0.2), first)


@runs
def test_more_pairs_than_one_launch_takes() -> None:
    pairs = [
        AttentionPair(*(draw(1, 1, n, 3, seed=n + i).to(DEVICE).requires_grad_() for i in range(3)))
        for n in range(1, 28)
    ]
    assert_same_bits(with_gradients(pairs, True), with_gradients(pairs, False))


@runs
def test_pairs_with_empty_axes(unwritten_is_nan: None) -> None:
    full, empty = draw(2, 1, 3, 4, seed=0).to(DEVICE), torch.zeros(2, 1, 0, 4, device=DEVICE)
    nobody = torch.zeros(0, 1, 3, 4, device=DEVICE)
    shapes = [(full, empty), (empty, full), (nobody, nobody), (full, full)]
    pairs = [
        AttentionPair(x.clone().requires_grad_(), y.clone().requires_grad_(),
                      y.clone().requires_grad_())
        for x, y in shapes
    ]  # fmt: skip
    found = with_gradients(pairs, True)
    assert_same_bits(found, with_gradients(pairs, False))
    assert not found[0].any() and found[3].all()


@runs
def test_tensors_shared_by_pairs_sum_their_gradients() -> None:
    """All directions between three modalities, each tensor in four pairs."""
    leaves = [draw(2, 2, n, 6, seed=n).to(DEVICE).requires_grad_() for n in (5, 9, 14)]
    pairs = [AttentionPair(x, y, y) for x in leaves for y in leaves if x is not y]
    totals = []
    for backend in ("cuda", "reference"):
        with force_backend(backend):
            outputs = cross_attention_pairs(pairs)
        upstream = [draw(*out.shape, seed=i).to(out) for i, out in enumerate(outputs)]
        totals.append(torch.autograd.grad(outputs, leaves, upstream))
    for ours, theirs in zip(*totals):
        torch.testing.assert_close(ours, theirs)


@runs
def test_opcheck() -> None:
    pairs = [[x.detach() for x in p[:3]] for p in several(False)[:2]]
    inputs = [list(tensors) for tensors in zip(*pairs)]
    lengths = [torch.tensor([33, 5]).to(DEVICE), torch.tensor([0, 21]).to(DEVICE)]
    seeds = [torch.tensor(1).to(DEVICE), torch.tensor(2).to(DEVICE)]
    options: Any = (lengths, [], [0.3, 0.4], 0.2, seeds)
    operators = torch.ops.fusionkit_cuda
    forward = operators.cross_attention_pairs.default
    torch.library.opcheck(forward, (*inputs, *options))
    saved = forward(*inputs, *options)
    torch.library.opcheck(
        operators.cross_attention_pairs_backward.default,
        ([torch.ones_like(out) for out in saved[:2]], *inputs, saved[:2], saved[2:], *options),
    )


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
