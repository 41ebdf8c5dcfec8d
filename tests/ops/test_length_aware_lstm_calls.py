"""How torch's own LSTM and GRU are called: what cuDNN asks for, which the CPU never checks."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.bench.plain_backends import plain_pytorch
from fusionkit.ops import force_backend, length_aware_lstm, length_aware_lstm_group

from recurrent_cases import Case, Inputs, build

LENGTHS = ["none", "any"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, bool]]:
    """Dropout and the flag ``train`` of every call."""
    found: list[tuple[float, bool]] = []

    def recorded(name: str) -> None:
        original = getattr(torch, name)

        def call(*args: Any) -> Any:
            packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
            found.append(args[6:8] if packed else args[5:7])
            return original(*args)

        monkeypatch.setattr(torch, name, call)

    recorded("lstm")
    recorded("gru")
    return found


@contextmanager
def on(name: str) -> Iterator[None]:
    with plain_pytorch(padded=True) if name == "plain" else force_backend(name):
        yield


def draw(cell: str, lengths: str) -> Inputs:
    return build(Case(6, 4, 5, 3, 8, 2, True, cell, torch.float32, "dense", lengths, False))


def call(inputs: Inputs, **options: Any) -> Tensor:
    options = {**inputs.options, **options}
    return length_aware_lstm(inputs.x, inputs.lengths, list(inputs.weights.values()), **options)[0]


@pytest.mark.parametrize("name", ["reference", "flip", "plain"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("training", [False, True])
def test_what_may_be_differentiated_is_run_for_training(
    calls: list[tuple[float, bool]], name: str, cell: str, lengths: str, training: bool
) -> None:
    """In evaluation, too, and without dropout there."""
    inputs = draw(cell, lengths)
    with on(name):
        call(inputs, training=training, dropout_p=0.5)
        assert calls and all(train for _, train in calls)
        dropouts = {dropout for dropout, _ in calls}
        assert dropouts <= ({0.0, 0.5} if training else {0.0})
        calls.clear()
        inputs.x = inputs.x.detach()
        call(inputs)
        assert calls and all(found == (0.0, True) for found in calls)


@pytest.mark.parametrize("name", ["reference", "flip", "plain"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_what_is_not_differentiated_is_not(
    calls: list[tuple[float, bool]], name: str, cell: str, lengths: str
) -> None:
    inputs = draw(cell, lengths)
    with on(name):
        with torch.no_grad():
            call(inputs, dropout_p=0.5)
        inputs.x = inputs.x.detach()
        inputs.weights = {key: w.detach() for key, w in inputs.weights.items()}
        call(inputs)
        assert calls and all(found == (0.0, False) for found in calls)


@pytest.mark.parametrize("lengths", [None, torch.tensor([3, 1])])
def test_groups_one_by_one(calls: list[tuple[float, bool]], lengths: Tensor | None) -> None:
    weights = list(torch.nn.LSTM(3, 2).parameters())
    with force_backend("reference"):
        length_aware_lstm_group([torch.zeros(2, 4, 3)] * 2, lengths, [weights] * 2)
    assert len(calls) == 2 and all(train for _, train in calls)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("differentiable", [False, True])
def test_one_compiled_graph_has_the_flag_of_its_call(lengths: str, differentiable: bool) -> None:
    inputs = draw("lstm", lengths)
    found: list[Any] = []

    def backend(graph: torch.fx.GraphModule, example: list[Tensor]) -> Any:
        nodes = [node for node in graph.graph.nodes if node.target is torch.lstm]
        found.extend(node.args[6] for node in nodes)
        return graph

    compiled = torch.compile(call, backend=backend, fullgraph=True)
    with force_backend("flip"), torch.set_grad_enabled(differentiable):
        torch.testing.assert_close(compiled(inputs), call(inputs))
    assert found and set(found) == {differentiable}


def test_second_derivatives_leave_cudnn_out(
    extension: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has none for recurrent networks."""
    enabled = []
    module = importlib.import_module("fusionkit.ops.length_aware_lstm.autograd")
    reference = module.run_reference

    def recorded(*args: Any, **options: Any) -> Any:
        enabled.append(torch.backends.cudnn.enabled)
        return reference(*args, **options)

    monkeypatch.setattr(module, "run_reference", recorded)
    modules = [nn.LSTM(size, 4, bidirectional=True) for size in (3, 5, 2)]
    inputs = [torch.randn(2, 6, own.input_size, requires_grad=True) for own in modules]
    weights = [list(own.parameters()) for own in modules]
    with force_backend("cpu"):
        outputs = length_aware_lstm_group(inputs, torch.tensor([6, 4]), weights, bidirectional=True)
        torch.autograd.grad(outputs[0].sum(), inputs[0], create_graph=True)
    assert len(enabled) == 3 and not any(enabled)
    assert torch.backends.cudnn.enabled
