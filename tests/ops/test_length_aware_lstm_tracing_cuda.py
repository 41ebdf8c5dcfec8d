"""The CUDA LSTM's operators under torch's checks, under tracing, and given what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.ops import force_backend, length_aware_lstm, length_aware_lstm_group

from on_cuda import DEVICE, runs

WHOLE = [0, 0, 0, 3, 4, 3, 0, 1, 0, 3, 4, 3]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def parameters(input_size: int, hidden_size: int) -> list[Tensor]:
    torch.manual_seed(input_size)
    module = nn.LSTM(input_size, hidden_size, bidirectional=True)
    return [w.detach().to(DEVICE) for w in module.parameters()]


def lengths(*values: int) -> Tensor:
    return torch.tensor(values, device=DEVICE)


@runs
@pytest.mark.parametrize(
    ("given", "needs"), [(False, (0b11, True)), (True, (0b10, False)), (True, (0, True))]
)
def test_contract_of_a_layer(given: bool, needs: tuple[int, bool]) -> None:
    inputs = [draw(3, 6, 5), draw(6, 3, 9).transpose(0, 1)]
    some = lengths(6, 6, 6) if given else None
    weights = [*parameters(5, 4), *parameters(9, 7)]
    operators = torch.ops.fusionkit_cuda
    arguments: tuple[Any, ...] = (inputs, some, weights, True, given)
    torch.library.opcheck(operators.lstm.default, arguments)
    results = operators.lstm(inputs, some, weights, True, True)
    outputs, states, steps = results[:2], results[2:6], results[6:]
    upstream = [draw(*output.shape) for output in outputs]
    of_states = [draw(*state.shape) for state in states] if given else []
    arguments = (upstream, of_states, inputs, some, weights, outputs, steps, True, *needs)
    torch.library.opcheck(operators.lstm_backward.default, arguments)


@runs
def test_contract_of_the_recurrence() -> None:
    w_hh, b_hh = [draw(16, 4), draw(16, 4, seed=1)], [draw(16), draw(16)]
    operators = torch.ops.fusionkit_cuda
    arguments = ([draw(3, 6, 16)] * 2, w_hh, b_hh, lengths(6, 6, 6), True, True, WHOLE)
    torch.library.opcheck(operators.lstm_steps.default, arguments)
    output, _, _, *steps = operators.lstm_steps(*arguments)
    back: tuple[Any, ...] = (
        [draw(3, 6, 8)],
        [],
        w_hh,
        lengths(6, 6, 6),
        [output],
        steps,
        True,
        WHOLE,
    )
    torch.library.opcheck(operators.lstm_steps_backward.default, back)


@runs
@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ([0, 0, 0, 3, 4], "six numbers a piece"),
        ([0, 2, 0, 3, 4, 3], "does not fit the tensors"),
        ([0, 0, 1, 3, 4, 3], "does not fit the tensors"),
        ([0, 0, 0, 3, 5, 3], "does not fit the tensors"),
        ([0, 0, 0, 3, 4, 4], "does not fit the tensors"),
        ([0, 0, 0, 1, 4, 1] * 33, "too many pieces"),
    ],
)
def test_plans_that_do_not_fit(plan: list[int], message: str) -> None:
    arguments = ([draw(3, 6, 16)], [draw(16, 4)], [draw(16)], None, False, False, plan)
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit_cuda.lstm_steps(*arguments)


@runs
def test_a_block_that_is_too_large() -> None:
    arguments = ([draw(1, 1, 2400)], [draw(2400, 600)], [draw(2400)], None, False, False)
    with pytest.raises(RuntimeError, match="too large"):
        torch.ops.fusionkit_cuda.lstm_steps(*arguments, [0, 0, 0, 1, 600, 1])


@runs
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: [torch.zeros(3, 6, 15)]}, r"projected must be float32 of shape \(3, 6, 16\)"),
        ({0: [torch.zeros(3, 6, 16).double()]}, "projected must be float32"),
        ({1: [torch.zeros(16, 5)]}, r"must be float32 of shape \(3, 6, 20\)"),
        ({2: []}, "as many w_hh and b_hh as projected"),
        ({2: [torch.zeros(15)]}, r"b_hh must be float32 of shape \(16\)"),
        ({3: torch.tensor([1, 2])}, "lengths must hold 3 numbers, got 2"),
        ({3: torch.tensor([1, 2, 3], dtype=torch.int32)}, "lengths must be int64"),
        ({4: True}, "two strands an input"),
    ],
)
def test_tensors_that_do_not_fit(change: dict[int, Any], message: str) -> None:
    arguments: list[Any] = [[draw(3, 6, 16)], [draw(16, 4)], [draw(16)], None, False, False, WHOLE]
    for place, value in change.items():
        arguments[place] = (
            [t.to(DEVICE) for t in value]
            if isinstance(value, list)
            else value.to(DEVICE) if isinstance(value, Tensor) else value
        )  # fmt: skip
    arguments[-1] = WHOLE[:6]
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit_cuda.lstm_steps(*arguments)


def both(x: Tensor, y: Tensor, lengths: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    share = len(weights) // 2
    pair = length_aware_lstm_group(
        [x * 2, y], lengths, [weights[:share], weights[share:]], bidirectional=True
    )
    output, state = length_aware_lstm(
        pair[0], lengths, weights[share:], bidirectional=True, need_state=True
    )
    assert isinstance(state, tuple)
    return (pair[1], output, *state)


@runs
def test_compiled_in_one_graph() -> None:
    """Forward and backward of a group and of one LSTM with its states."""
    leaves = [draw(3, 6, 5), draw(3, 6, 8), *parameters(5, 4), *parameters(8, 7)]
    for leaf in leaves:
        leaf.requires_grad_()
    results = []
    with force_backend("cuda"):
        for function in (both, torch.compile(both, fullgraph=True, backend="aot_eager")):
            outputs = function(*leaves[:2], lengths(6, 0, 3), *leaves[2:])
            total = torch.stack([output.square().sum() for output in outputs]).sum()
            results.append([*outputs, *torch.autograd.grad(total, leaves)])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_traced_without_a_device() -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    operators = torch.ops.fusionkit_cuda
    with FakeTensorMode():
        x, w_ih, w_hh, bias = (
            torch.empty(*shape, device="cuda") for shape in ((2, 3, 5), (16, 5), (16, 4), (16,))
        )
        weights = [w_ih, w_hh, bias, bias] * 2
        found = operators.lstm.default([x], None, weights, True, True)
        output, steps = found[0], found[3:]
        back = operators.lstm_backward.default(
            [output], [], [x], None, weights, [output], steps, True, 1, True
        )
        projected = torch.empty(2, 3, 16, device="cuda")
        rows = operators.lstm_steps.default(
            [projected] * 2, [w_hh] * 2, [bias] * 2, None, True, True, []
        )
        gates = operators.lstm_steps_backward.default(
            [output], [], [w_hh] * 2, None, [output], steps, True, []
        )
    assert all(t.device.type == "cuda" for t in (*found, *back, *rows, *gates))
    assert [t.shape for t in found] == [(2, 3, 8), (2, 2, 4), (2, 2, 4), (2, 3, 20), (2, 3, 20)]
    assert [t.shape for t in rows] == [t.shape for t in found]
    assert [t.shape for t in back] == [t.shape for t in (x, *weights)]
    assert [t.shape for t in gates] == [(2, 3, 16), (2, 3, 16), (2, 3, 4), (2, 3, 4)]
