"""Several Triton cross-attentions in one launch: in Triton's interpreter, or on a device."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs, force_backend
from fusionkit.ops.cross_attention.triton_launch import Attention, backward, forward
from fusionkit.ops.cross_attention_pairs.triton import MAX_PAIRS, pairs_reasons
from fusionkit.ops.triton_runtime import INTERPRETING

from attention_cases import NAN, lay_out
from on_triton import DEVICE, runs


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def lengths(*given: int) -> Tensor:
    return torch.tensor(given, device=DEVICE)


def three_pairs(
    dims: tuple[int, int, int], dtype: torch.dtype = torch.float32
) -> list[AttentionPair]:
    """Of unlike sizes and layouts, the cheapest first; NaN in the padding of some."""
    sizes = [(1, 1, 40, 5, 4), (2, 1, 9, 36, 6), (1, 2, 5, 70, 9)]
    layouts = ("heads_split", "every_second", "reversed_axes")
    pairs = []
    for i, ((b, h, tq, tk, dv), d, layout) in enumerate(zip(sizes, dims, layouts)):
        query, key, value = (
            draw(b, h, *rest, seed=10 * i + j)
            for j, rest in enumerate(((tq, d), (tk, d), (tk, dv)))
        )
        keys = rows = None
        if i == 1:
            keys = lengths(0, 33)
            key[1, :, 33:], value[1, :, 33:], value[0] = NAN, NAN, NAN
        if i != 1:
            rows = lengths(tq - 2)
            query[:, :, tq - 2 :] = NAN
        query, key, value = (
            lay_out(x.to(dtype), layout).requires_grad_() for x in (query, key, value)
        )
        seed = (7, torch.tensor(-8).to(DEVICE), 2**50)[i]
        pairs.append(AttentionPair(query, key, value, keys, rows, seed))
    return pairs


def tensors(pairs: list[AttentionPair]) -> list[Tensor]:
    return [x for pair in pairs for x in pair[:3]]


def one_by_one(pairs: list[AttentionPair], **options: Any) -> list[Tensor]:
    return [
        cross_attention(
            p.query, p.key, p.value, key_lengths=p.key_lengths, query_lengths=p.query_lengths,
            seed=p.seed, **options,
        )
        for p in pairs
    ]  # fmt: skip


def with_gradients(
    function: Any, backend: str, pairs: list[AttentionPair], **options: Any
) -> list[Tensor]:
    with force_backend(backend):
        outputs = function(pairs, **options)
        upstream = [draw(*out.shape, seed=i).to(out.dtype) for i, out in enumerate(outputs)]
        return [*outputs, *torch.autograd.grad(outputs, tensors(pairs), upstream)]


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pairs_of_one_head_dim_give_the_bits_of_single_calls(
    unwritten_is_nan: None, dtype: torch.dtype
) -> None:
    pairs = three_pairs((10, 10, 10), dtype)
    found = with_gradients(cross_attention_pairs, "triton", pairs, dropout_p=0.3)
    wanted = with_gradients(one_by_one, "triton", pairs, dropout_p=0.3)
    for i, (a, b) in enumerate(zip(found, wanted, strict=True)):
        assert a.dtype == b.dtype and a.isfinite().all() and a.equal(b), i


@runs
def test_pairs_of_unlike_head_dims(unwritten_is_nan: None) -> None:
    pairs = three_pairs((3, 40, 16))
    found = with_gradients(cross_attention_pairs, "triton", pairs, scale=0.3)
    for a, b in zip(found, with_gradients(one_by_one, "reference", pairs, scale=0.3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@runs
def test_all_directions_between_four_modalities() -> None:
    """Twelve pairs, the most of one launch, each tensor in six of them."""
    leaves = [draw(1, 1, n, 4, seed=n).requires_grad_() for n in (2, 3, 5, 18)]
    pairs = [AttentionPair(x, y, y) for x, y in permutations(leaves, 2)]
    assert len(pairs) == MAX_PAIRS
    results = []
    for backend in ("triton", "reference"):
        with force_backend(backend):
            out = cross_attention_pairs(pairs)
        results.append([*out, *torch.autograd.grad([x.square().sum() for x in out], leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@runs
def test_pairs_with_empty_axes(unwritten_is_nan: None) -> None:
    full, empty = draw(2, 1, 3, 4, seed=0), torch.zeros(2, 1, 0, 4, device=DEVICE)
    nobody = torch.zeros(0, 1, 3, 4, device=DEVICE)
    leaves = [x.requires_grad_() for x in (full, empty, nobody)]
    pairs = [AttentionPair(full, empty, empty), AttentionPair(empty, full, full),
             AttentionPair(nobody, nobody, nobody), AttentionPair(full, full, full)]  # fmt: skip
    results = []
    for backend in ("triton", "reference"):
        with force_backend(backend):
            out = cross_attention_pairs(pairs)
        results.append([*out, *torch.autograd.grad([x.sum() for x in out], leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)
    with force_backend("triton"):
        (only,) = cross_attention_pairs([AttentionPair(empty, full, full)])
    assert only.shape == (2, 1, 0, 4)


@runs
def test_gradients_where_some_are_wanted_and_some_outputs_are_used() -> None:
    pairs = [
        p._replace(query=p.query.detach(), key=p.key.detach(), value=p.value.detach())
        for p in three_pairs((5, 5, 5))
    ]
    leaf = pairs[0].key.requires_grad_()
    gradients: list[Tensor] = []
    for backend in ("triton", "reference"):
        with force_backend(backend):
            found = cross_attention_pairs(pairs)
        gradients += torch.autograd.grad(found[0].sum(), leaf)
    torch.testing.assert_close(*gradients)


@runs
@pytest.mark.parametrize("operator", ["cross_attention_pairs", "cross_attention_pairs_backward"])
def test_opcheck(operator: str) -> None:
    query, key = [draw(1, 1, 2, 3, seed=0)], [draw(1, 1, 4, 3, seed=1)]
    query, key, value = query + key, key + query, key + query
    options: tuple[Any, ...] = (
        [lengths(3), lengths(2)], [], [0.3, 0.4], 0.2, [torch.tensor(n).to(DEVICE) for n in (1, 2)],
    )  # fmt: skip
    arguments: tuple[Any, ...] = (query, key, value, *options)
    if operator == "cross_attention_pairs_backward":
        saved = torch.ops.fusionkit_triton.cross_attention_pairs.default(*arguments)
        grad_out = [torch.ones_like(out) for out in saved[:2]]
        arguments = (grad_out, query, key, value, saved[:2], saved[2:], *options)
    torch.library.opcheck(getattr(torch.ops.fusionkit_triton, operator).default, arguments)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Kernels that would be compiled for a GPU: name, what a build is looked up by."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver
    from triton.runtime.jit import JITFunction

    found: list[tuple[Any, ...]] = []
    gpu = SimpleNamespace(
        get_current_target=lambda: GPUTarget("cuda", 90, 32),
        get_current_device=lambda: -1,
        get_current_stream=lambda device: 0,
    )
    monkeypatch.setattr(driver, "_active", gpu)
    monkeypatch.setattr(
        JITFunction, "_do_compile", lambda self, key, *_: found.append((self.fn.__name__, key))
    )
    return found


def sized(*sizes: tuple[int, int, int, int]) -> list[Attention]:
    """(B, H, Tq, Tk) of each pair; heads inside steps, a head dim of 8."""
    pairs = []
    for b, h, tq, tk in sizes:
        query, key = (torch.zeros(b, t, h, 8).transpose(1, 2) for t in (tq, tk))
        lengths = torch.full((b,), tk)
        pairs.append(Attention(query, key, key, None, lengths, None, 0.5, torch.tensor(3)))
    return pairs


@pytest.mark.skipif(find_spec("triton") is None, reason="needs triton: pip install triton==3.7.1")
@pytest.mark.skipif(INTERPRETING, reason="the interpreter compiles nothing: unset TRITON_INTERPRET")
def test_one_launch_each_and_no_new_build_for_new_sizes(launches: list[tuple[Any, ...]]) -> None:
    for b, h, tq, tk in ((3, 2, 7, 9), (16, 4, 16, 32), (1, 1, 1, 1), (64, 8, 50, 375)):
        pairs = sized((b, h, tq, tk), (b, h, tk, tq), (1, h, 5, tk))
        outs, row_sums = forward(pairs, 0.1)
        backward(pairs, outs, outs, row_sums, 0.1, 0b111)
    names = ["attention_forward", "attention_backward_rows", "attention_backward_keys"]
    assert [name for name, _ in launches] == names * 4
    assert len(set(launches)) == 3


@runs
def test_the_longest_work_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair's numbers begin with its first program."""
    from fusionkit.ops.cross_attention import triton_forward

    launched = []

    class Recorder:
        def __getitem__(self, grid: tuple[int]) -> Any:
            return lambda **given: launched.append((grid, given))

    monkeypatch.setattr(triton_forward, "attention_forward", Recorder())
    forward(sized((2, 3, 33, 5), (2, 3, 7, 90), (2, 3, 200, 20)), 0.0)
    ((grid, given),) = launched
    first, keys = ([(n[i] - 3) // 2 for n in given["numbers"]] for i in (0, 3))
    programs = [6 * -(-n // given["ROWS"]) for n in (7, 200, 33)]
    assert keys == [90, 20, 5] and first == [0, programs[0], programs[0] + programs[1]]
    assert grid == (sum(programs),)
    assert [x.shape[2] for x in given["queries"]] == [7, 200, 33]


def test_what_it_does_not_take() -> None:
    x = torch.ones(1, 1, 2, 3)
    pairs = [
        AttentionPair(x, x, x),
        AttentionPair(*(x.double(),) * 3),
        AttentionPair(*(x.half(),) * 3),
    ]
    reasons = "; ".join(pairs_reasons(pairs + pairs[:1] * 10))
    assert "pairs[1]: query is torch.float64" in reasons and "13 pairs" in reasons
    assert "pairs[2]: dtype is torch.float16, that of pairs[0] is torch.float32" in reasons
    assert ("pairs[0]: query is on cpu" in reasons) == (not INTERPRETING)


def test_traced_without_a_device() -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x, y = (torch.empty(2, 1, n, 5, device="cuda", dtype=torch.float16) for n in (3, 7))
        inputs = ([x, y], [y, x], [y, x])
        options: Any = ([], [], [0.5, 0.5], 0.0, [])
        saved = torch.ops.fusionkit_triton.cross_attention_pairs.default(*inputs, *options)
        back = torch.ops.fusionkit_triton.cross_attention_pairs_backward.default(
            saved[:2], *inputs, saved[:2], saved[2:], *options
        )
    assert all(out.device.type == "cuda" and out.dtype == torch.float16 for out in back)
    assert [out.shape for out in saved[:2]] == [x.shape, y.shape]
    assert [out.shape for out in back] == [t.shape for t in (x, y, y, y, x, x)]
