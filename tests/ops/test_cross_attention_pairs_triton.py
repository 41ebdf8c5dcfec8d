"""Several Triton cross-attentions in one launch: in Triton's interpreter, or on a device."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import permutations
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fusionkit.ops import AttentionPair, cross_attention_pairs
from fusionkit.ops.cross_attention.triton_launch import Attention, backward, forward
from fusionkit.ops.cross_attention_pairs.triton import MAX_PAIRS, pairs_reasons
from fusionkit.ops.triton_runtime import INTERPRETING

from fuzz import blocks
from on_triton import DEVICE, runs
from pairs_checks import (
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
    one_by_one,
    several,
    with_gradients,
)


def sizes(*dims: int) -> list[tuple[int, ...]]:
    """(B, H, Tq, Tk, D, Dv) of three pairs of these head dims, the cheapest first."""
    of_each = [(1, 1, 40, 5, 4), (2, 1, 9, 36, 6), (1, 2, 5, 70, 9)]
    return [(*lengths, dim, value_dim) for (*lengths, value_dim), dim in zip(of_each, dims)]


@runs
@pytest.mark.parametrize("seeds", blocks(0.0015))
def test_fuzz(unwritten_is_nan: None, seeds: range) -> None:
    for seed in seeds:
        check_accuracy("triton", DEVICE, *draw_cases(seed, 256, builds=20))


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_pairs_of_one_head_dim_give_the_bits_of_single_calls(
    unwritten_is_nan: None, dtype: torch.dtype
) -> None:
    pairs = several(DEVICE, sizes(10, 10, 10), dtype=dtype)
    check_bits_of_single_calls("triton", pairs, dropout_p=0.3)


@runs
def test_pairs_of_unlike_head_dims(unwritten_is_nan: None) -> None:
    pairs = several(DEVICE, sizes(3, 40, 16))
    found = with_gradients(cross_attention_pairs, "triton", pairs, scale=0.3)
    for a, b in zip(found, with_gradients(one_by_one, "reference", pairs, scale=0.3), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@runs
def test_the_most_pairs_of_one_launch_sum_the_gradients_of_shared_tensors() -> None:
    steps = (2, 3, 5, 18)
    assert len(list(permutations(steps, 2))) == MAX_PAIRS
    check_shared_tensors("triton", DEVICE, steps)


@runs
def test_pairs_with_empty_axes(unwritten_is_nan: None) -> None:
    check_empty_axes("triton", DEVICE)


@runs
def test_gradients_where_some_are_wanted_and_some_outputs_are_used() -> None:
    check_wanted_gradients("triton", several(DEVICE, sizes(5, 5, 5)))


@runs
def test_gradients_numerically() -> None:
    check_numeric_gradients("triton", DEVICE)


@runs
def test_opcheck() -> None:
    check_operators("triton", DEVICE)


@runs
def test_compiled_in_one_graph() -> None:
    check_compiled("triton", DEVICE)


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
    check_tracing("triton")
