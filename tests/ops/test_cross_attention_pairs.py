"""Several cross-attentions in one call: to the bit what one call for each gives."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs, force_backend
from fusionkit.ops.backends import BackendError, available_backends

from attention_cases import NAN, lay_out

KNOWN = available_backends()["cross_attention_pairs"]
BACKENDS = [b.name for b in KNOWN if not b.unavailable and b.name not in ("cuda", "triton")]


@pytest.fixture(autouse=True)
def keep_threads(restore: None) -> Iterator[None]:
    torch.set_num_threads(1)
    yield


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def three_pairs(lengths: bool = True, dtype: torch.dtype = torch.float32) -> list[AttentionPair]:
    """Of unlike sizes and layouts; NaN in the padding where there are lengths, in some pairs."""
    sizes = [(2, 2, 70, 33, 10, 10), (2, 2, 33, 70, 10, 12), (3, 1, 5, 130, 40, 40)]
    layouts = ("heads_split", "every_second", "reversed_axes")
    pairs = []
    for i, ((b, h, tq, tk, d, dv), layout) in enumerate(zip(sizes, layouts)):
        query, key, value = (draw(b, h, *rest, seed=10 * i + j)
                             for j, rest in enumerate(((tq, d), (tk, d), (tk, dv))))  # fmt: skip
        keys = rows = None
        if lengths and i != 1:
            keys = torch.tensor([tk, 0, tk // 2])[:b]
            for n, *padded in zip(keys.tolist(), key, value):
                for x in padded:
                    x[:, n:] = NAN
        if lengths and i != 2:
            rows = torch.tensor([tq // 3, tq])
            query[0, :, tq // 3 :] = NAN
        query, key, value = (
            lay_out(x.to(dtype), layout).requires_grad_() for x in (query, key, value)
        )
        seed = (7, torch.tensor(-8), 2**50)[i]
        pairs.append(AttentionPair(query, key, value, keys, rows, seed))
    return pairs


def tensors(pairs: list[AttentionPair]) -> list[Tensor]:
    return [x for pair in pairs for x in pair[:3]]


def upstream(outputs: list[Tensor]) -> list[Tensor]:
    return [draw(*out.shape, seed=i).to(out.dtype) for i, out in enumerate(outputs)]


def one_by_one(pairs: list[AttentionPair], **options: Any) -> list[Tensor]:
    return [
        cross_attention(
            p.query, p.key, p.value, key_lengths=p.key_lengths, query_lengths=p.query_lengths,
            seed=p.seed, **options,
        )
        for p in pairs
    ]  # fmt: skip


def with_gradients(function: Any, pairs: list[AttentionPair], **options: Any) -> list[Tensor]:
    outputs = function(pairs, **options)
    return [*outputs, *torch.autograd.grad(outputs, tensors(pairs), upstream(outputs))]


def assert_same_bits(found: list[Tensor], wanted: list[Tensor]) -> None:
    assert len(found) == len(wanted)
    for i, (a, b) in enumerate(zip(found, wanted)):
        assert a.dtype == b.dtype and a.isfinite().all() and a.equal(b), i


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("lengths", [False, True], ids=["nolengths", "lengths"])
@pytest.mark.parametrize("options", [{}, {"scale": 0.7}, {"dropout_p": 0.4}], ids=str)
@pytest.mark.parametrize("name", BACKENDS)
def test_outputs_and_gradients_of_single_calls(
    unwritten_is_nan: None, name: str, options: dict[str, float], lengths: bool,
    dtype: torch.dtype, threads: int,
) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    pairs = three_pairs(lengths, dtype)
    with force_backend(name):
        found = with_gradients(cross_attention_pairs, pairs, **options)
        assert_same_bits(found, with_gradients(one_by_one, pairs, **options))


def test_on_every_instruction_set(isa: str) -> None:
    assert "cpu" in BACKENDS
    pairs = three_pairs()
    with force_backend("cpu"):
        found = with_gradients(cross_attention_pairs, pairs, dropout_p=0.1)
        assert_same_bits(found, with_gradients(one_by_one, pairs, dropout_p=0.1))


def test_same_bits_again_on_any_number_of_threads(extension: ModuleType) -> None:
    pairs = three_pairs()
    with force_backend("cpu"):
        first = with_gradients(cross_attention_pairs, pairs, dropout_p=0.2)
        for i in range(20):
            torch.set_num_threads(1 + i % 2)
            assert_same_bits(with_gradients(cross_attention_pairs, pairs, dropout_p=0.2), first)


@pytest.mark.parametrize("name", BACKENDS)
def test_no_pairs_give_no_results(name: str) -> None:
    with force_backend(name):
        assert cross_attention_pairs([]) == []


@pytest.mark.parametrize("name", BACKENDS)
def test_pairs_with_empty_axes(name: str) -> None:
    full, empty = draw(2, 1, 3, 4, seed=0), torch.zeros(2, 1, 0, 4)
    nobody = torch.zeros(0, 1, 3, 4)
    pairs = [AttentionPair(full, empty, empty), AttentionPair(empty, full, full),
             AttentionPair(nobody, nobody, nobody), AttentionPair(full, full, full)]  # fmt: skip
    with force_backend(name):
        found = cross_attention_pairs(pairs)
        assert_same_bits(found, one_by_one(pairs))
    assert not found[0].any() and found[3].all()


@pytest.mark.parametrize("name", BACKENDS)
def test_tensors_shared_by_pairs_sum_their_gradients(name: str) -> None:
    """All directions between three modalities, each tensor in four pairs."""
    leaves = [draw(2, 2, n, 6, seed=n).requires_grad_() for n in (5, 9, 14)]
    pairs = [AttentionPair(x, y, y) for x in leaves for y in leaves if x is not y]
    with force_backend(name):
        found = cross_attention_pairs(pairs)
        wanted = one_by_one(pairs)
    ours = torch.autograd.grad(found, leaves, upstream(found))
    theirs = torch.autograd.grad(wanted, leaves, upstream(wanted))
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", BACKENDS)
def test_gradients_where_some_are_wanted_and_some_outputs_are_used(name: str) -> None:
    pairs = [
        p._replace(query=p.query.detach(), key=p.key.detach(), value=p.value.detach())
        for p in three_pairs()
    ]
    leaf = pairs[1].key.requires_grad_()
    with force_backend(name):
        found = cross_attention_pairs(pairs)
        (ours,) = torch.autograd.grad(found[1].sum(), leaf)
        (theirs,) = torch.autograd.grad(one_by_one(pairs)[1].sum(), leaf)
    assert ours.equal(theirs)


def test_without_gradients_the_outputs_are_the_same(extension: ModuleType) -> None:
    pairs = three_pairs()
    with force_backend("cpu"):
        wanted = cross_attention_pairs(pairs)
        with torch.no_grad():
            found = cross_attention_pairs(pairs)
    assert all(out.grad_fn is not None for out in wanted)
    assert all(out.grad_fn is None for out in found)
    assert_same_bits(found, wanted)


def test_second_derivatives_are_those_of_the_reference(extension: ModuleType) -> None:
    second = []
    for name in ("cpu", "reference"):
        pairs = three_pairs(lengths=False)
        with force_backend(name):
            outputs = cross_attention_pairs(pairs, dropout_p=0.2)
            gradients = torch.autograd.grad(
                outputs, tensors(pairs), upstream(outputs), create_graph=True
            )
            totals = [g.square().sum() for g in gradients]
            second.append(torch.autograd.grad(totals, tensors(pairs)))
    for ours, theirs in zip(*second):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("name", BACKENDS)
def test_autocast_is_that_of_single_calls(name: str) -> None:
    pairs = three_pairs()
    pairs[0] = pairs[0]._replace(value=pairs[0].value.detach().bfloat16().requires_grad_())
    with force_backend(name), torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(cross_attention_pairs, pairs)
        assert_same_bits(found, with_gradients(one_by_one, pairs))
    assert found[0].dtype == torch.bfloat16


def both_directions(x: Tensor, y: Tensor, lengths: Tensor, seed: Tensor) -> tuple[Tensor, Tensor]:
    there, back = cross_attention_pairs(
        [AttentionPair(x * 2, y, y, lengths, None, seed), AttentionPair(y, x, x, None, lengths, 3)],
        dropout_p=0.25,
    )
    return there, back


def test_compiled_in_one_graph(extension: ModuleType) -> None:
    compiled = torch.compile(both_directions, fullgraph=True)
    with force_backend("cpu"):
        for keys, seed in (([9, 0], 1), ([2, 5], 2)):
            options = torch.tensor(keys), torch.tensor(seed)
            results = []
            for function in (compiled, both_directions):
                x, y = leaves = [draw(2, 2, n, 5, seed=n).requires_grad_() for n in (7, 9)]
                with torch._dynamo.config.patch(error_on_recompile=seed != 1):
                    outputs = function(x, y, *options)
                results.append([*outputs, *torch.autograd.grad([x.sum() for x in outputs], leaves)])
            for a, b in zip(*results):
                torch.testing.assert_close(a, b)


X, Y = torch.zeros(2, 2, 3, 4), torch.zeros(2, 2, 5, 4)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (AttentionPair(X, Y, X), r"pairs\[1\]: value .* differ in steps"),
        (AttentionPair(X, Y.double(), Y), r"pairs\[1\]: key is torch.float64"),
        (AttentionPair(X[0], Y, Y), r"pairs\[1\]: query must be \(B, H, T, D\)"),
        (AttentionPair(X, Y, Y, torch.tensor([6, 1])), r"pairs\[1\]: key_lengths must be in"),
        (AttentionPair(X, Y, Y, None, torch.tensor([1])), r"pairs\[1\]: query_lengths must have"),
        (AttentionPair(X, Y, Y, None, None, torch.tensor([1])), r"pairs\[1\]: seed must be an int"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit_are_refused_by_pair_and_name(
    pair: AttentionPair, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        cross_attention_pairs([AttentionPair(X, Y, Y, seed=1), pair])


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dropout_p must be in \[0, 1\)"):
        cross_attention_pairs([AttentionPair(X, Y, Y)], dropout_p=1.0)
    pairs = [AttentionPair(X, Y, Y, seed=1), AttentionPair(Y, X, X)]
    with pytest.raises(ConfigError, match=r"pairs\[1\]: seed is required when dropout_p > 0"):
        cross_attention_pairs(pairs, dropout_p=0.1)


def test_a_forced_backend_names_the_pair_that_it_cannot_take(extension: ModuleType) -> None:
    pairs = [AttentionPair(X, Y, Y), AttentionPair(X.double(), Y.double(), Y.double())]
    with force_backend("cpu"), pytest.raises(BackendError, match=r"pairs\[1\]: query is .*float64"):
        cross_attention_pairs(pairs)
    assert [out.dtype for out in cross_attention_pairs(pairs)] == [torch.float32, torch.float64]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": [Y]}, "key must hold 2 entries, one a pair, got 1"),
        ({"value": [Y, Y, Y]}, "value must hold 2 entries, one a pair, got 3"),
        ({"key_lengths": [torch.tensor([1, 2])]}, "key_lengths must hold 2 entries"),
        ({"query_lengths": [torch.tensor([1, 2])]}, "query_lengths must hold 2 entries"),
        ({"scale": [1.0]}, "scale must hold 2 entries"),
        ({"dropout_p": 0.5}, "seed is required"),
        ({"dropout_p": 0.5, "seed": [torch.tensor(1)]}, "seed must hold 2 entries"),
        ({"key": [Y, X]}, "value must have size 3 on axis 2"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else None,
)
def test_raw_operator_checks_its_inputs(
    extension: ModuleType, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {
        "query": [X, X], "key": [Y, Y], "value": [Y, Y], "key_lengths": [], "query_lengths": [],
        "scale": [1.0, 1.0], "dropout_p": 0.0, "seed": [],
    }  # fmt: skip
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit.cross_attention_pairs(**{**arguments, **change})


def test_operator_contract(extension: ModuleType) -> None:
    (query, key, value), (x, y, z) = ([t.detach() for t in p[:3]] for p in three_pairs(False)[:2])
    options: Any = ([torch.tensor([33, 5]), torch.tensor([0, 70])], [], [0.3, 0.4], 0.2,
               [torch.tensor(1), torch.tensor(2)])  # fmt: skip
    forward = torch.ops.fusionkit.cross_attention_pairs.default
    inputs = ([query, x], [key, y], [value, z])
    torch.library.opcheck(forward, (*inputs, *options))
    saved = forward(*inputs, *options)
    torch.library.opcheck(
        torch.ops.fusionkit.cross_attention_pairs_backward.default,
        ([torch.ones_like(out) for out in saved[:2]], *inputs, saved[:2], saved[2:], *options),
    )
