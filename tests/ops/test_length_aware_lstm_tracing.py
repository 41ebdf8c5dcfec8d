"""The compiled LSTM under torch.compile, torch.export and torch's checks of custom operators."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.nn.recurrent import LengthAwareRNN, run_together
from fusionkit.ops.length_aware_lstm import length_aware_lstm, length_aware_lstm_group

LENGTHS = {"none": None, "full": torch.tensor([6, 6, 6])}


def parameters(input_size: int, hidden_size: int, bidirectional: bool) -> list[Tensor]:
    torch.manual_seed(input_size)
    module = nn.LSTM(input_size, hidden_size, bidirectional=bidirectional)
    return [w.detach() for w in module.parameters()]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("save", [False, True])
def test_operator_contract_of_forward(
    extension: ModuleType, lengths: str, bidirectional: bool, save: bool
) -> None:
    inputs = [draw(3, 6, 5), draw(6, 3, 9).transpose(0, 1)]
    weights = [*parameters(5, 4, bidirectional), *parameters(9, 7, bidirectional)]
    torch.library.opcheck(
        torch.ops.fusionkit.lstm.default, (inputs, LENGTHS[lengths], weights, bidirectional, save)
    )


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("needs", [(0b11, True), (0b10, False), (0, True)])
@pytest.mark.parametrize("states", [False, True])
def test_operator_contract_of_backward(
    extension: ModuleType, lengths: str, needs: tuple[int, bool], states: bool
) -> None:
    inputs, given = [draw(3, 6, 5), draw(3, 6, 9)], LENGTHS[lengths]
    weights = [*parameters(5, 4, True), *parameters(9, 7, True)]
    results = torch.ops.fusionkit.lstm(inputs, given, weights, True, True)
    outputs, steps = results[:2], results[6:]
    grad_outputs = [draw(*output.shape) for output in outputs]
    grad_states = [draw(*state.shape) for state in results[2:6]] if states else []
    torch.library.opcheck(
        torch.ops.fusionkit.lstm_backward.default,
        (grad_outputs, grad_states, inputs, given, weights, outputs, steps, True, *needs),
    )


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


def outputs_and_gradients(function: Any, lengths: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    outputs = function(*leaves[:2], lengths, *leaves[2:])
    total = sum(output.square().sum() for output in outputs)
    return [*outputs, *torch.autograd.grad(total, leaves)]


def test_compiled_in_one_graph(extension: ModuleType) -> None:
    """Forward and backward of a group and of one LSTM with its states, with other lengths again."""
    compiled = torch.compile(both, fullgraph=True)
    # The second LSTM takes 8 features: those of the second input, and both directions of the first.
    leaves = [draw(3, 6, 5), draw(3, 6, 8), *parameters(5, 4, True), *parameters(8, 7, True)]
    for k, values in enumerate(([6, 0, 3], [1, 2, 6])):
        lengths = torch.tensor(values)
        with torch._dynamo.config.patch(error_on_recompile=k > 0):
            found = outputs_and_gradients(compiled, lengths, leaves)
        for a, b in zip(found, outputs_and_gradients(both, lengths, leaves)):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = LengthAwareRNN(5, 4), LengthAwareRNN(3, 7)

    def forward(self, x: Tensor, y: Tensor, lengths: Tensor) -> list[Tensor]:
        return run_together([self.first, self.second], [x, y], lengths)


@pytest.mark.parametrize("strict", [False, True], ids=["nonstrict", "strict"])
def test_export_with_dynamic_batch(extension: ModuleType, strict: bool) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (draw(3, 6, 5), draw(3, 6, 3), torch.tensor([6, 0, 3]))
    shapes = {"x": {0: batch}, "y": {0: batch}, "lengths": {0: batch}}
    module = Pair()
    program = torch.export.export(module, example, dynamic_shapes=shapes, strict=strict)
    other = (draw(5, 6, 5, seed=2), draw(5, 6, 3, seed=3), torch.tensor([1, 2, 3, 4, 6]))
    for a, b in zip(program.module()(*other), module(*other)):
        assert a.equal(b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, r"inputs must be one or more tensors \(B, T, D\)"),
        ({"inputs": [torch.zeros(3, 4)]}, r"inputs must be one or more tensors \(B, T, D\)"),
        ({"inputs": [torch.zeros(2, 3, 4).double()]}, r"inputs\[0\] must be float32 on the CPU"),
        ({"inputs": [torch.zeros(2, 3, 5)]}, r"weights\[0\] must be of shape \(8, 5\)"),
        ({"weights": []}, "weights must hold 4 tensors, got 0"),
        ({"lengths": torch.tensor([1])}, "lengths must hold 2 numbers, got 1"),
        ({"lengths": torch.tensor([1.0, 2.0])}, "lengths must be int64"),
        ({"lengths": torch.tensor([1, 4])}, r"lengths must be in \[0, 3\], got 4"),
        ({"lengths": torch.tensor([-1, 2])}, r"lengths must be in \[0, 3\], got -1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_raw_operator_checks_its_inputs(
    extension: ModuleType, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {
        "inputs": [torch.zeros(2, 3, 4)],
        "lengths": None,
        "weights": parameters(4, 2, False),
        "bidirectional": False,
        "save": True,
        **change,
    }
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit.lstm(**arguments)


@pytest.mark.parametrize("change", ["cell", "layers", "directions", "steps", None])
def test_modules_run_together_or_one_by_one(change: str | None) -> None:
    torch.manual_seed(0)
    first = LengthAwareRNN(5, 4, cell="gru" if change == "cell" else "lstm")
    second = LengthAwareRNN(
        3, 7, num_layers=2 if change == "layers" else 1, bidirectional=change == "directions"
    )
    inputs = [draw(3, 6, 5), draw(3, 8 if change == "steps" else 6, 3)]
    lengths = torch.tensor([6, 0, 3])
    calls: list[int] = []
    second.register_forward_hook(lambda *_: calls.append(1))
    outputs = run_together([first, second], inputs, lengths)
    assert len(calls) == (change is not None)
    for rnn, x, output in zip([first, second], inputs, outputs):
        torch.testing.assert_close(output, rnn(x, lengths)[0])
