"""The CUDA LSTM against float64: in the emulator on the CPU, or on a device."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.ops import force_backend, length_aware_lstm, length_aware_lstm_group

from fuzz import blocks
from on_cuda import DEVICE, runs
from recurrent_cases import NAN, Case, assert_close, build, packed, poison, run

EPS = torch.finfo(torch.float32).eps
OPERATORS = importlib.import_module("fusionkit.ops.length_aware_lstm.cuda_operators")
# Around the sizes at which a thread, a team and a block are full.
SIZES = (1, 2, 4, 5, 7, 16, 19, 20, 21, 33, 40, 64, 100, 101, 130)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only wait for the other threads, for long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def on_blocks(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """As if the device could run so many blocks at a time."""
    monkeypatch.setattr(OPERATORS, "blocks_at_once", lambda like: count)


def draw(seed: int) -> tuple[Case, int]:
    """A call, and how many blocks run at a time."""
    g = torch.Generator().manual_seed(seed)

    def pick(*options: Any) -> Any:
        return options[int(torch.randint(len(options), (), generator=g))]

    case = Case(
        seed=seed,
        batch=pick(1, 2, 5, 9),
        steps=pick(1, 2, 3, 7),
        input_size=pick(1, 3, 8, 35),
        hidden_size=pick(*SIZES),
        num_layers=pick(1, 1, 1, 2),
        bidirectional=pick(True, False),
        cell="lstm",
        dtype=torch.float32,
        layout=pick("dense", "time_first", "every_second"),
        kind_of_lengths=pick("none", "full", "with_zero", "any", "shorter"),
        need_state=pick(False, True),
    )
    return case, pick(2, 3, 8, 20)


@runs
@pytest.mark.parametrize("seeds", blocks(0.025))
def test_fuzz(monkeypatch: pytest.MonkeyPatch, unwritten_is_nan: None, seeds: range) -> None:
    """At most twice the error of packed PyTorch, padding neither read nor left unwritten."""
    for seed in seeds:
        case, count = draw(seed)
        on_blocks(monkeypatch, count)
        inputs = build(case)
        want, plain = packed(inputs.cast(torch.float64)), packed(inputs)
        poison(inputs)
        with force_backend("cuda"):
            got = {name: x.cpu() for name, x in run(inputs.on(DEVICE)).items()}
        assert_close(got, want, plain, EPS)
        if inputs.lengths is None:
            continue
        for b, n in enumerate(inputs.lengths.tolist()):
            assert not got["output"][b, n:].any(), str(case)
            assert not got["gradient of input"][b, n:].any(), str(case)


class Group:
    """LSTMs that fit into one block, into a part of one, and into several."""

    def __init__(self, sizes: tuple[int, ...] = (100, 9, 130), bidirectional: bool = True) -> None:
        torch.manual_seed(0)
        self.bidirectional = bidirectional
        self.lengths = torch.tensor([4, 3, 0, 4, 1], device=DEVICE)
        modules = [nn.LSTM(7 + i, h, bidirectional=bidirectional) for i, h in enumerate(sizes)]
        self.weights = [[w.detach().to(DEVICE) for w in m.parameters()] for m in modules]
        self.inputs = [torch.randn(5, 4, m.input_size).to(DEVICE) for m in modules]
        self.leaves = [*self.inputs, *(w for own in self.weights for w in own)]
        for leaf in self.leaves:
            leaf.requires_grad_()

    def together(self) -> list[Tensor]:
        return length_aware_lstm_group(
            self.inputs, self.lengths, self.weights, bidirectional=self.bidirectional
        )

    def one_by_one(self) -> list[Tensor]:
        return [
            length_aware_lstm(x, self.lengths, w, bidirectional=self.bidirectional)[0]
            for x, w in zip(self.inputs, self.weights)
        ]

    def with_gradients(self, outputs: list[Tensor]) -> list[Tensor]:
        total = torch.stack([output.sin().sum() for output in outputs]).sum()
        return [*outputs, *torch.autograd.grad(total, self.leaves)]


@runs
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("count", [2, 5, 40])
def test_a_group_equals_its_members(
    monkeypatch: pytest.MonkeyPatch, unwritten_is_nan: None, bidirectional: bool, count: int
) -> None:
    """In one launch or in several."""
    on_blocks(monkeypatch, count)
    group = Group(bidirectional=bidirectional)
    with force_backend("cuda"):
        together = group.with_gradients(group.together())
        one_by_one = group.with_gradients(group.one_by_one())
    assert all(a.equal(b) for a, b in zip(together, one_by_one))
    with force_backend("reference"):
        for a, b in zip(together, group.with_gradients(group.together())):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@runs
@pytest.mark.parametrize("order", ["reverse", "shuffled"])
def test_the_order_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch, order: str) -> None:
    """Nor the number of blocks; on a device, where the order is its own, they are repeated."""
    group, results = Group(), []
    for i, count in enumerate((20, 20, 6)):
        on_blocks(monkeypatch, count)
        monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", order if i else "forward")
        with force_backend("cuda"):
            results.append(group.with_gradients(group.together()))
    for other in results[1:]:
        assert all(a.equal(b) for a, b in zip(results[0], other))


@runs
def test_many_rows_and_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """More rows than one block holds, and than a launch; hidden size 300 takes ten blocks."""
    for case, count in (
        (Case(1, 300, 2, 2, 3, 1, True, "lstm", torch.float32, "dense", "any", False), 2),
        (Case(2, 83, 2, 3, 130, 1, False, "lstm", torch.float32, "dense", "any", True), 2),
        (Case(3, 3, 2, 4, 300, 1, False, "lstm", torch.float32, "dense", "full", True), 10),
    ):
        on_blocks(monkeypatch, count)
        inputs = build(case)
        want, plain = packed(inputs.cast(torch.float64)), packed(inputs)
        with force_backend("cuda"):
            got = {name: x.cpu() for name, x in run(inputs.on(DEVICE)).items()}
        assert_close(got, want, plain, EPS)


@runs
def test_a_nan_gradient_arriving_at_padding_stops_there() -> None:
    group = Group((9, 21))
    upstream = torch.ones(5, 4, 18, device=DEVICE)
    upstream[torch.arange(4, device=DEVICE) >= group.lengths[:, None]] = NAN
    with force_backend("cuda"):
        output = group.one_by_one()[0]
        gradients = torch.autograd.grad(output, [group.inputs[0], *group.weights[0]], upstream)
    assert all(x.isfinite().all() for x in gradients)


@runs
def test_lengths_out_of_range_stay_in_memory() -> None:
    """On a device they cannot be checked: they count as 0 and T."""
    group = Group((9,))
    group.lengths = torch.tensor([4, 3, 0, 4, 1], device=DEVICE)
    arguments = [group.inputs, group.lengths, group.weights[0], True, True]
    want = torch.ops.fusionkit_cuda.lstm(*arguments)
    arguments[1] = torch.tensor([9, 3, -2, 2**40, 1], device=DEVICE)
    for a, b in zip(want[:-2], torch.ops.fusionkit_cuda.lstm(*arguments)):
        assert a.equal(b)


@runs
def test_gradients_of_the_state_alone_and_second_derivatives() -> None:
    case = Case(5, 3, 4, 3, 4, 1, True, "lstm", torch.float32, "dense", "with_zero", True)
    found = []
    for inputs in (build(case), build(case).cast(torch.float64)):
        ours = inputs.x.dtype == torch.float32
        inputs = inputs.on(DEVICE)
        weights = list(inputs.weights.values())
        with force_backend("cuda" if ours else "reference"):
            output, state = length_aware_lstm(inputs.x, inputs.lengths, weights, **inputs.options)
            assert isinstance(state, tuple)
            leaves = [inputs.x, *weights]
            of_state = torch.autograd.grad(state[1].sum(), leaves, retain_graph=True)
            total = output.square().sum() + state[0].square().sum()
            first = torch.autograd.grad(total, [inputs.x, weights[1]], create_graph=True)
            penalty = first[0].square().sum() + first[1].square().sum()
            found.append([*of_state, *torch.autograd.grad(penalty, leaves)])
    for a, b in zip(*found):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


@runs
def test_outputs_and_inputs_that_take_no_part() -> None:
    """An unused output, an input without gradient, frozen weights, no gradient at all."""
    group = Group((9, 21, 9))
    inputs = [group.inputs[0], group.inputs[1].detach(), group.inputs[0]]
    frozen = [w.detach() for w in group.weights[0]]
    weights = [frozen, group.weights[1], frozen]
    with force_backend("cuda"):
        outputs = length_aware_lstm_group(inputs, group.lengths, weights, bidirectional=True)
        (once,) = torch.autograd.grad(outputs[0].sum(), inputs[0], retain_graph=True)
        total = (outputs[0] + outputs[2]).sum()
        (both,) = torch.autograd.grad(total, inputs[0], retain_graph=True)
        assert torch.equal(both, 2 * once)
        found = torch.autograd.grad(outputs[1].sum(), weights[1])
        alone, _ = length_aware_lstm(inputs[1], group.lengths, weights[1], bidirectional=True)
        assert all(map(torch.equal, found, torch.autograd.grad(alone.sum(), weights[1])))
        with torch.no_grad():
            again = length_aware_lstm_group(inputs, group.lengths, weights, bidirectional=True)
    assert all(a.equal(b) and not a.requires_grad for a, b in zip(again, outputs))


@runs
@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_no_samples_or_no_steps(shape: tuple[int, int]) -> None:
    weights = [w.detach().to(DEVICE) for w in nn.LSTM(4, 2).parameters()]
    x = torch.zeros(*shape, 4, device=DEVICE)
    with force_backend("cuda"):
        output, state = length_aware_lstm(x, None, weights, need_state=True)
    assert output.shape == (*shape, 2) and isinstance(state, tuple)
    assert [tuple(s.shape) for s in state] == [(1, shape[0], 2)] * 2
    assert not any(s.any() for s in state)
    outputs = torch.ops.fusionkit_cuda.lstm([x], None, weights, False, False)
    assert [tuple(t.shape) for t in outputs] == [(*shape, 2), (2, shape[0], 2)]
    assert not outputs[1].any()


@runs
def test_autocast_does_not_reach_into_the_operator() -> None:
    group = Group((9,))
    with force_backend("cuda"):
        want = group.with_gradients(group.together())
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            found = group.with_gradients(group.together())
    assert all(a.equal(b) for a, b in zip(found, want))
