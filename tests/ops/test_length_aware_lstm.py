"""`length_aware_lstm` against a hand-written cell, and every backend against packed sequences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops import explain, force_backend, length_aware_lstm
from fusionkit.ops.backends import BackendError

from recurrent_cases import (
    BACKENDS,
    NAN,
    Case,
    Inputs,
    assert_close,
    build,
    by_loops,
    draw,
    packed,
    poison,
    run,
    takers,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only wait for the other threads, for long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


CASES = [draw(seed) for seed in range(330)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_backend_is_as_accurate_as_packed_torch(case: Case) -> None:
    inputs = build(case)
    want = packed(inputs.cast(torch.float64))
    plain = packed(inputs)
    poison(inputs)
    names = takers(inputs)
    assert "reference" in names
    for name in names:
        with force_backend(name):
            got = run(inputs)
        assert all(x.dtype == case.dtype for x in got.values())
        assert_close(got, want, plain, torch.finfo(case.dtype).eps)
        if inputs.lengths is not None:
            for b, n in enumerate(inputs.lengths.tolist()):
                assert not got["output"][b, n:].any()
                assert not got["gradient of input"][b, n:].any()


def test_the_drawn_cases_reach_every_backend() -> None:
    reached = {name for case in CASES[:60] for name in takers(build(case))}
    assert reached == set(BACKENDS)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("need_state", [False, True], ids=["output", "state"])
@pytest.mark.parametrize("layers", [(1, False), (1, True), (2, True)], ids=["L1x1", "L1x2", "L2x2"])
def test_it_equals_a_hand_written_cell(
    cell: str, need_state: bool, layers: tuple[int, bool]
) -> None:
    case = Case(4, 4, 5, 3, 2, *layers, cell, torch.float64, "dense", "full", need_state)
    inputs = build(case)
    inputs.lengths = torch.tensor([3, 0, 4, 1])
    want = by_loops(inputs)
    for name in takers(inputs):
        with force_backend(name):
            assert_close(run(inputs), want, None, torch.finfo(torch.float64).eps)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_rows_of_length_zero_give_zeros_and_no_gradient(name: str, cell: str) -> None:
    case = Case(2, 3, 4, 2, 3, 2, True, cell, torch.float32, "dense", "full", cell == "gru")
    inputs = build(case)
    inputs.lengths = torch.tensor([0, 0, 0])
    poison(inputs)
    with force_backend(name):
        assert not any(x.any() for x in run(inputs).values())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", ["none", "any"])
@pytest.mark.parametrize("need_state", [False, True], ids=["output", "state"])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)], ids=["B0-T3", "B2-T0", "B0-T0"])
def test_empty_axes_give_empty_or_zero_results(
    cell: str, lengths: str, need_state: bool, shape: tuple[int, int]
) -> None:
    case = Case(2, *shape, 2, 3, 2, True, cell, torch.float32, "dense", lengths, need_state)
    inputs = build(case)
    got = run(inputs)
    assert got["output"].shape == (*shape, 6)
    assert not need_state or got["h_n"].shape == (4, shape[0], 3)
    assert not any(x.any() for x in got.values())
    if not need_state:
        with force_backend("flip"):
            assert not any(x.any() for x in run(inputs).values())


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_nan_gradient_arriving_at_padding_stops_there(name: str, cell: str) -> None:
    case = Case(2, 3, 4, 2, 3, 1, True, cell, torch.float32, "dense", "full", False)
    inputs = build(case)
    inputs.lengths = torch.tensor([4, 2, 0])
    upstream = torch.ones(3, 4, 6)
    upstream[1, 2:], upstream[2] = NAN, NAN
    weights = list(inputs.weights.values())
    with force_backend(name):
        output, _ = length_aware_lstm(inputs.x, inputs.lengths, weights, **inputs.options)
        gradients = torch.autograd.grad(output, [inputs.x, *weights], upstream)
    assert all(x.isfinite().all() for x in gradients)
    assert gradients[0][1, :2].any() and not gradients[0][1, 2:].any()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gradcheck(name: str, cell: str) -> None:
    case = Case(3, 2, 3, 2, 2, 2, True, cell, torch.float64, "dense", "full", False)
    inputs = build(case)
    inputs.lengths = torch.tensor([3, 2])

    def function(x: Tensor, *weights: Tensor) -> Tensor:
        return length_aware_lstm(x, inputs.lengths, weights, **inputs.options)[0]

    with force_backend(name):
        assert torch.autograd.gradcheck(function, (inputs.x, *inputs.weights.values()))


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", ["none", "any"])
def test_dropout_acts_between_the_layers_in_training_only(
    name: str, cell: str, lengths: str
) -> None:
    case = Case(6, 4, 5, 3, 8, 2, True, cell, torch.float32, "dense", lengths, False)
    inputs = build(case)
    with force_backend(name):
        want = run(inputs)["output"]
        inputs.options["dropout_p"] = 0.5
        assert torch.equal(run(inputs)["output"], want)
        inputs.options["training"] = True
        torch.manual_seed(0)
        first = run(inputs)["output"]
        other = run(inputs)["output"]
        torch.manual_seed(0)
        assert torch.equal(run(inputs)["output"], first)
        assert not torch.equal(first, other) and not torch.equal(first, want)

        inputs.options["dropout_p"] = 1.0
        all_dropped = run(inputs)["output"]
        # The second layer sees zeros only, but the output of the last layer is not dropped.
        upper = Inputs(
            torch.zeros(4, 5, 16, requires_grad=True),
            inputs.lengths,
            {n.replace("l1", "l0"): w for n, w in inputs.weights.items() if "l1" in n},
            {"bidirectional": True, "cell": cell},
        )
        torch.testing.assert_close(all_dropped, run(upper)["output"])
        assert all_dropped.any()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_repeated_calls_give_the_same_bits(name: str, cell: str) -> None:
    case = Case(8, 6, 12, 8, 16, 2, True, cell, torch.float32, "dense", "any", False)
    inputs = build(case)
    with force_backend(name):
        first = run(inputs)
        for _ in range(10):
            for key, x in run(inputs).items():
                assert torch.equal(x, first[key]), key


def test_flip_is_preferred_and_explain_says_why_not() -> None:
    inputs = build(Case(1, 2, 3, 2, 2, 1, True, "lstm", torch.float32, "dense", "any", False))
    arguments = (inputs.x, inputs.lengths, list(inputs.weights.values()))
    options = {"bidirectional": True}
    assert "reference  a backend of higher priority is chosen" in explain(
        "length_aware_lstm", *arguments, **options
    )
    text = explain("length_aware_lstm", *arguments, **options, need_state=True)
    (flip,) = (line for line in text.splitlines() if line.strip().startswith("flip"))
    assert "does not give the cell state" in flip
    with force_backend("flip"), pytest.raises(BackendError, match="need_state"):
        length_aware_lstm(*arguments, bidirectional=True, need_state=True)


def test_autocast_takes_an_input_of_lower_precision() -> None:
    inputs = build(Case(1, 2, 3, 2, 2, 1, True, "lstm", torch.float32, "dense", "any", False))
    weights = list(inputs.weights.values())
    want, _ = length_aware_lstm(inputs.x, inputs.lengths, weights, bidirectional=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, _ = length_aware_lstm(inputs.x.bfloat16(), inputs.lengths, weights, bidirectional=True)
    torch.testing.assert_close(got.float(), want, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": torch.zeros(2, 3)}, r"input must be \(B, T, D\)"),
        ({"input": torch.zeros(2, 3, 5)}, r"weights\[0\] must be \(8, 5\), got \(8, 4\)"),
        ({"input": torch.zeros(2, 3, 4).double()}, r"weights\[0\] is torch.float32 and input"),
        ({"input": torch.zeros(2, 3, 4, device="meta")}, r"lengths is on cpu and input on meta"),
        ({"lengths": torch.tensor([1])}, "lengths must have one entry a sample"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "lengths must be int64"),
        ({"lengths": torch.tensor([1, 4])}, r"lengths must be in \[0, 3\], got values from 1 to 4"),
        ({"lengths": torch.tensor([-1, 3])}, r"lengths must be in \[0, 3\]"),
        ({"weights": []}, "weights must hold 4 tensors"),
        ({"num_layers": 2}, "weights must hold 8 tensors"),
        ({"cell": "gru"}, r"weights\[0\] must be \(6, 4\)"),
    ],
)
def test_data_that_do_not_fit_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "input": torch.zeros(2, 3, 4),
        "lengths": torch.tensor([1, 3]),
        "weights": [w.detach() for w in nn.LSTM(4, 2).parameters()],
    }
    with pytest.raises(DataError, match=message):
        length_aware_lstm(**(arguments | change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": "rnn"}, "cell must be 'lstm' or 'gru', got 'rnn'"),
        ({"num_layers": 0}, "num_layers must be at least 1"),
        ({"dropout_p": 1.5}, r"dropout_p must be in \[0, 1\]"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    weights = list(nn.LSTM(4, 2).parameters())
    with pytest.raises(ConfigError, match=message):
        length_aware_lstm(torch.zeros(2, 3, 4), None, weights, **options)
