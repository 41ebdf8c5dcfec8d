"""`cross_attention` against loops in float64, and every backend against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import cross_attention, force_backend
from fusionkit.ops.philox import keep_mask

from attention_cases import (
    BACKENDS,
    DENSE,
    INF,
    NAN,
    Case,
    Inputs,
    assert_close,
    build,
    call,
    draw,
    outputs_and_gradients,
    poison,
    small,
    takers,
)
from attention_formulas import by_loops
from attention_truth import find_truth


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only wait for the other threads, for long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CASES = [draw(seed) for seed in range(360)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_backend_is_as_accurate_as_plain_pytorch(case: Case) -> None:
    inputs = build(case)
    g = torch.Generator().manual_seed(1)
    sizes = [case.value_dim, case.num_keys][: 1 + case.return_weights]
    upstream = [
        torch.randn(case.batch, case.heads, case.num_queries, n, generator=g).to(case.dtype)
        for n in sizes
    ]
    truth = find_truth(inputs, upstream)
    poison(inputs)
    names = takers(inputs)
    assert "reference" in names
    for name in names:
        with force_backend(name):
            got = outputs_and_gradients(cross_attention, inputs, upstream)
        truth.check(got, name)


def test_the_drawn_cases_reach_every_backend() -> None:
    reached = {name for case in CASES[:60] for name in takers(build(case))}
    assert reached == set(BACKENDS)


def loop_inputs(
    shape: tuple[int, int, int, int, int, int],
    key_lengths: list[int] | None,
    query_lengths: list[int] | None,
    bias_axes: str,
    dropout_p: float,
    return_weights: bool,
) -> tuple[str, Inputs]:
    case = Case(5, *shape, torch.float64, DENSE, False, False, bias_axes, dropout_p, return_weights)
    inputs = build(case)
    inputs.options["key_lengths"] = None if key_lengths is None else torch.tensor(key_lengths)
    inputs.options["query_lengths"] = None if query_lengths is None else torch.tensor(query_lengths)
    return str(case), inputs


LOOP_INPUTS = [
    loop_inputs((2, 1, 4, 3, 2, 2), [3, 1], [4, 2], "", 0.0, False),
    loop_inputs((2, 1, 4, 3, 2, 2), [3, 1], [4, 2], "", 0.0, True),
    loop_inputs((3, 2, 3, 5, 3, 4), [0, 5, 2], [3, 0, 1], "BHQK", 0.0, False),
    loop_inputs((3, 2, 3, 5, 3, 4), [0, 5, 2], [3, 0, 1], "BHQK", 0.0, True),
    loop_inputs((2, 2, 2, 6, 1, 1), [6, 4], None, "QK", 0.5, True),
    loop_inputs((1, 3, 5, 2, 4, 2), None, [3], "H1K", 0.25, False),
]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        pytest.param(name, inputs, id=f"{name}-{case}")
        for case, inputs in LOOP_INPUTS
        for name in takers(inputs)
    ],
)
def test_it_equals_loops_over_the_valid_keys(name: str, inputs: Inputs) -> None:
    want = outputs_and_gradients(by_loops, inputs)
    with force_backend(name):
        got = outputs_and_gradients(cross_attention, inputs)
    assert_close(got, want, None, torch.finfo(torch.float64).eps)


def small_with(option: str) -> Inputs:
    """Uneven lengths, one of them 0, and one more option."""
    inputs = small(key_lengths=torch.tensor([3, 0]), query_lengths=torch.tensor([2, 3]))
    if option == "bias":
        g = torch.Generator().manual_seed(0)
        inputs.leaves["bias"] = torch.randn(2, 1, 4, generator=g).double().requires_grad_()
    if option in ("weights", "dropout_and_weights"):
        inputs.options["return_weights"] = True
    if option in ("dropout", "dropout_and_weights"):
        inputs.options.update(dropout_p=0.4, seed=torch.tensor(11))
    return inputs


SMALL_OPTIONS = ["", "bias", "weights", "dropout", "dropout_and_weights"]
NAMES_AND_OPTIONS = [(n, option) for option in SMALL_OPTIONS for n in takers(small_with(option))]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("with_bias", [False, True], ids=["nobias", "bias"])
def test_padding_holding_nan_changes_nothing(name: str, with_bias: bool) -> None:
    inputs = small(key_lengths=torch.tensor([2, 0]), query_lengths=torch.tensor([1, 3]))
    inputs = inputs.cast(torch.float32)
    if with_bias:
        inputs.leaves["bias"] = torch.randn(2, 2, 3, 4, requires_grad=True)
    with force_backend(name):
        want = outputs_and_gradients(cross_attention, inputs)
        poison(inputs)
        got = outputs_and_gradients(cross_attention, inputs)
    for key, x in want.items():
        assert torch.equal(got[key], x), key
    assert not got["output"][0, :, 1:].any() and not got["output"][1].any()
    assert got["output"][0, :, :1].all()
    assert not got["gradient of query"][0, :, 1:].any()
    assert not got["gradient of key"][0, :, 2:].any()
    assert not got["gradient of value"][0, :, 2:].any()
    assert not any(x[1].any() for key, x in got.items() if key.startswith("gradient"))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_nan_gradient_arriving_at_padding_stops_there(name: str) -> None:
    inputs = small(key_lengths=torch.tensor([4, 0]), query_lengths=torch.tensor([2, 3]))
    inputs = inputs.cast(torch.float32)
    upstream = torch.ones(2, 2, 3, 2)
    upstream[0, :, 2:], upstream[1] = NAN, NAN
    with force_backend(name):
        got = outputs_and_gradients(cross_attention, inputs, [upstream])
    assert all(x.isfinite().all() for x in got.values())
    assert got["gradient of value"][0].any()


NAMES_AND_DTYPES = [
    (name, dtype)
    for dtype in (torch.float32, torch.float64, torch.bfloat16)
    for name in takers(small().cast(dtype))
]


@pytest.mark.parametrize(("name", "dtype"), NAMES_AND_DTYPES, ids=str)
@pytest.mark.parametrize("bias_needs_grad", [False, True], ids=["fixed", "learnt"])
def test_rows_whose_bias_excludes_every_key_are_zero(
    name: str, dtype: torch.dtype, bias_needs_grad: bool
) -> None:
    inputs = small().cast(dtype)
    bias = torch.zeros(2, 1, 3, 4, dtype=dtype)
    bias[0, :, 1] = -INF
    bias[1] = -INF
    if bias_needs_grad:
        inputs.leaves["bias"] = bias.requires_grad_()
    else:
        inputs.options["bias"] = bias
    with force_backend(name):
        got = outputs_and_gradients(cross_attention, inputs)
    assert all(x.isfinite().all() for x in got.values())
    assert not got["output"][0, :, 1].any() and not got["output"][1].any()
    assert got["output"][0, :, 0].any()
    assert not got["gradient of query"][0, :, 1].any()
    assert not any(x[1].any() for key, x in got.items() if key.startswith("gradient"))


@pytest.mark.parametrize("with_weights", [False, True], ids=["result", "weights"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.5])
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)],
    ids=["B0-H2-T3x4", "B2-H0-T3x4", "B2-H2-T0x4", "B2-H2-T3x0"],
)  # fmt: skip
def test_empty_axes_give_empty_or_zero_results(
    shape: tuple[int, int, int, int], dropout_p: float, with_weights: bool
) -> None:
    b, h, tq, tk = shape
    case = Case(
        1, b, h, tq, tk, 2, 5, torch.float32, DENSE, True, True, "", dropout_p, with_weights
    )
    inputs = build(case)
    for name in takers(inputs):
        with force_backend(name):
            got = outputs_and_gradients(cross_attention, inputs)
        assert got["output"].shape == (b, h, tq, 5)
        assert not with_weights or got["weights"].shape == (b, h, tq, tk)
        assert not any(x.any() for x in got.values())
        assert all(got[f"gradient of {n}"].shape == x.shape for n, x in inputs.leaves.items())


@pytest.mark.parametrize(("name", "option"), NAMES_AND_OPTIONS)
def test_gradcheck(name: str, option: str) -> None:
    inputs = small_with(option)

    def function(*leaves: Tensor) -> Any:
        return call(Inputs(dict(zip(inputs.leaves, leaves)), inputs.options, inputs.layouts))

    with force_backend(name):
        assert torch.autograd.gradcheck(function, tuple(inputs.leaves.values()))


def test_the_reference_can_be_differentiated_twice() -> None:
    inputs = small(key_lengths=torch.tensor([4, 0]))

    def function(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return cross_attention(query, key, value, key_lengths=inputs.options["key_lengths"])

    with force_backend("reference"):
        assert torch.autograd.gradgradcheck(function, tuple(inputs.leaves.values()))


def test_dropout_uses_the_philox_mask_of_the_seed() -> None:
    inputs = small(return_weights=True)
    _, weights = call(inputs)
    inputs.options.update(dropout_p=0.5, seed=42)
    result, dropped = call(inputs)
    keep = keep_mask(42, tuple(weights.shape), 0.5, weights.device)
    torch.testing.assert_close(dropped, weights * keep / 0.5)
    torch.testing.assert_close(result, dropped @ inputs.leaves["value"])
    inputs.options["seed"] = torch.tensor(42)
    again, _ = call(inputs)
    assert torch.equal(result, again)
    inputs.options["seed"] = 43
    other, _ = call(inputs)
    assert not torch.equal(result, other)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("threads", [1, 2])
def test_repeated_calls_give_the_same_bits(dropout_p: float, threads: int) -> None:
    torch.set_num_threads(threads)
    case = Case(9, 4, 4, 50, 33, 10, 10, torch.float32, DENSE, True, True, "", dropout_p, False)
    inputs = build(case)
    for name in takers(inputs):
        with force_backend(name):
            first = outputs_and_gradients(cross_attention, inputs)
            for _ in range(10):
                for key, x in outputs_and_gradients(cross_attention, inputs).items():
                    assert torch.equal(x, first[key]), (name, key)


@pytest.mark.parametrize(("name", "option"), NAMES_AND_OPTIONS)
def test_it_compiles_without_graph_breaks(name: str, option: str) -> None:
    inputs = small_with(option)
    torch.compiler.reset()
    # aot_eager traces forward and backward like the default compiler, without its C++ build.
    compiled = torch.compile(cross_attention, fullgraph=True, backend="aot_eager")
    with force_backend(name):
        want = outputs_and_gradients(cross_attention, inputs)
        got = outputs_and_gradients(compiled, inputs)
    assert_close(got, want, None, torch.finfo(torch.float64).eps)
