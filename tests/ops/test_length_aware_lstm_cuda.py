"""The CUDA LSTM against float64: in the emulator on the CPU, or on a device."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from fusionkit.ops import force_backend, length_aware_lstm, length_aware_lstm_group

from cuda_lstm_cases import assert_right, draw, draw_group, run_group, truth_of
from fuzz import blocks
from on_cuda import DEVICE, runs
from recurrent_cases import NAN, Case, build, run

OPERATORS = importlib.import_module("fusionkit.ops.length_aware_lstm.cuda_operators")


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


@runs
@pytest.mark.parametrize("seeds", blocks(0.025))
def test_fuzz(monkeypatch: pytest.MonkeyPatch, unwritten_is_nan: None, seeds: range) -> None:
    for seed in seeds:
        case, count = draw(seed)
        on_blocks(monkeypatch, count)
        inputs = build(case)
        truth = truth_of(inputs)
        with force_backend("cuda"):
            assert_right(inputs, run(inputs.on(DEVICE)), truth)


@runs
@pytest.mark.parametrize("seeds", blocks(0.025))
def test_fuzz_of_groups(
    monkeypatch: pytest.MonkeyPatch, unwritten_is_nan: None, seeds: range
) -> None:
    for seed in seeds:
        monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", ("forward", "reverse", "shuffled")[seed % 3])
        members, count = draw_group(seed)
        on_blocks(monkeypatch, count)
        truths = [truth_of(member) for member in members]
        with force_backend("cuda"):
            found = run_group([member.on(DEVICE) for member in members])
        for member, got, truth in zip(members, found, truths, strict=True):
            assert_right(member, got, truth)


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
        truth = truth_of(inputs)
        with force_backend("cuda"):
            assert_right(inputs, run(inputs.on(DEVICE)), truth)


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
@pytest.mark.filterwarnings("ignore:Input .* not a double precision")
def test_gradients_numerically() -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    group = Group((2, 3))
    own = len(group.weights[0])

    def alone(x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        with force_backend("cuda"):
            output, state = length_aware_lstm(
                x, group.lengths, weights, bidirectional=True, need_state=True
            )
        assert isinstance(state, tuple)
        return output, *state

    def together(x: Tensor, y: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        both = [weights[:own], weights[own:]]
        with force_backend("cuda"):
            return tuple(length_aware_lstm_group([x, y], group.lengths, both, bidirectional=True))

    for call, leaves in ((alone, (group.inputs[0], *group.weights[0])), (together, group.leaves)):
        assert torch.autograd.gradcheck(
            call, tuple(leaves), eps=1e-2, atol=5e-3, rtol=5e-3, fast_mode=True
        )


@runs
def test_gradients_of_the_state_alone_and_second_derivatives() -> None:
    case = Case(5, 3, 4, 3, 4, 1, True, "lstm", torch.float32, "dense", "with_zero", True)
    found = []
    for inputs in (build(case), build(case).cast(torch.float64)):
        ours = inputs.x.dtype == torch.float32
        inputs = inputs.on(DEVICE)
        weights = list(inputs.weights.values())
        # The recurrent networks of cuDNN have no second derivatives.
        without_cudnn = nullcontext() if ours else torch.backends.cudnn.flags(enabled=False)
        with force_backend("cuda" if ours else "reference"), without_cudnn:
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
