"""The compiled LSTM against float64, on every instruction set, on one and two threads."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from fusionkit.errors import DataError
from fusionkit.ops import explain, force_backend, length_aware_lstm, length_aware_lstm_group
from fusionkit.ops.backends import BackendError

from fuzz import blocks
from recurrent_cases import (
    NAN,
    Case,
    assert_close,
    build,
    draw_for_kernels,
    packed,
    picker,
    poison,
    run,
)

EPS = torch.finfo(torch.float32).eps
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 48, 65, 100, 130)


def draw(seed: int) -> Case:
    """A call with sizes around those of vectors, tiles and panels."""
    return draw_for_kernels(
        seed, picker(seed), batches=(1, 2, 5, 9, 17, 70), steps=(1, 2, 3, 7, 20),
        input_sizes=(*SIZES, 300), hidden_sizes=SIZES,
    )  # fmt: skip


@pytest.mark.parametrize("seeds", blocks(0.2))
def test_fuzz(extension: ModuleType, restore: None, unwritten_is_nan: None, seeds: range) -> None:
    """At most twice the error of packed PyTorch, padding neither read nor left unwritten."""
    for seed in seeds:
        case = draw(seed)
        inputs = build(case)
        torch.set_num_threads(1)
        want, plain = packed(inputs.cast(torch.float64)), packed(inputs)
        poison(inputs)
        torch.set_num_threads(2 if seed % 4 == 0 else 1)
        for level in extension.isa_levels():
            extension.set_isa(level)
            with force_backend("cpu"):
                got = run(inputs)
            assert_close(got, want, plain, EPS)
            if inputs.lengths is None:
                continue
            for b, n in enumerate(inputs.lengths.tolist()):
                assert not got["output"][b, n:].any(), f"{case}, {level}"
                assert not got["gradient of input"][b, n:].any(), f"{case}, {level}"


def one_unit(logits: Tensor, bias: list[float], gate: int) -> Tensor:
    """Cell state after one step of one unit whose gate (i, f, g, o) is fed with the logits."""
    w_ih = torch.zeros(4, 1)
    w_ih[gate] = 1.0
    weights = [w_ih, torch.zeros(4, 1), torch.tensor(bias), torch.zeros(4)]
    with force_backend("cpu"):
        _, state = length_aware_lstm(logits.view(-1, 1, 1), None, weights, need_state=True)
    assert isinstance(state, tuple)
    return state[1].flatten().double()


def test_activations_are_accurate_everywhere(isa: str) -> None:
    """Relative error below 1e-6, of tanh near 0 too."""
    spread = torch.logspace(-30, 1.5, 20_001)
    logits = torch.cat([-spread, spread])
    # c = sigmoid(i) * tanh(g), and 30 makes either of the factors 1.
    found = one_unit(logits, [30.0, 0.0, 0.0, 0.0], gate=2)
    exact = logits.double().tanh()
    assert ((found - exact) / exact).abs().max() < 1e-6
    logits = torch.linspace(-85.0, 100.0, 20_001)
    found = one_unit(logits, [0.0, 0.0, 30.0, 0.0], gate=0)
    exact = logits.double().sigmoid()
    assert ((found - exact) / exact).abs().max() < 1e-5
    assert ((found - exact) / exact)[logits > -5].abs().max() < 1e-6
    far = torch.tensor([-1e30, 1e30])
    assert one_unit(far, [0.0, 0.0, 30.0, 0.0], gate=0).allclose(far.sigmoid().double())
    assert one_unit(far, [30.0, 0.0, 0.0, 0.0], gate=2).equal(far.sign().double())
    assert one_unit(torch.tensor([NAN]), [30.0, 0.0, 0.0, 0.0], gate=2).isnan().all()


class Group:
    """Three LSTMs of different sizes over nine sequences."""

    def __init__(self, bidirectional: bool = True) -> None:
        torch.manual_seed(0)
        self.bidirectional = bidirectional
        self.lengths = torch.tensor([12, 3, 0, 7, 7, 1, 9, 12, 4])
        self.modules = [
            nn.LSTM(d, h, bidirectional=bidirectional) for d, h in ((40, 20), (9, 35), (3, 5))
        ]
        self.inputs = [torch.randn(9, 12, m.input_size).requires_grad_() for m in self.modules]
        self.weights = [list(m.parameters()) for m in self.modules]

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
        leaves = [*self.inputs, *(w for own in self.weights for w in own)]
        total = sum(output.sin().sum() for output in outputs)
        return [*outputs, *torch.autograd.grad(total, leaves)]  # type: ignore[arg-type]


def test_same_bits_again_on_any_number_of_threads(isa: str, restore: None) -> None:
    group = Group()
    # Long enough that the work is split.
    group.inputs = [x.detach().repeat(8, 1, 1).requires_grad_() for x in group.inputs]
    group.lengths = group.lengths.repeat(8)
    results = []
    for count in (1, 2, 3, 2, 1):
        torch.set_num_threads(count)
        with force_backend("cpu"):
            results.append(group.with_gradients(group.together()))
    for one, other in pairwise(results):
        assert all(a.equal(b) for a, b in zip(one, other))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_group_equals_its_members(isa: str, bidirectional: bool) -> None:
    group = Group(bidirectional)
    with force_backend("cpu"):
        together = group.with_gradients(group.together())
        one_by_one = group.with_gradients(group.one_by_one())
    assert all(a.equal(b) for a, b in zip(together, one_by_one))
    with force_backend("reference"):
        for a, b in zip(together, group.with_gradients(group.together())):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_outputs_and_inputs_that_take_no_part(extension: ModuleType) -> None:
    """An unused output, an input without gradient, frozen weights, one input given twice."""
    group = Group()
    group.inputs[1] = group.inputs[1].detach()
    frozen = [w.detach() for w in group.weights[0]]
    with force_backend("cpu"):
        inputs, weights = [group.inputs[0], group.inputs[1], group.inputs[0]], group.weights
        outputs = length_aware_lstm_group(
            inputs, group.lengths, [frozen, weights[1], frozen], bidirectional=True
        )
        assert torch.equal(outputs[0], outputs[2])
        (once,) = torch.autograd.grad(outputs[0].sum(), inputs[0], retain_graph=True)
        (both,) = torch.autograd.grad((outputs[0] + outputs[2]).sum(), inputs[0], retain_graph=True)
        assert torch.equal(both, 2 * once)
        found = torch.autograd.grad(outputs[1].sum(), weights[1])
        alone, _ = length_aware_lstm(inputs[1], group.lengths, weights[1], bidirectional=True)
        assert all(map(torch.equal, found, torch.autograd.grad(alone.sum(), weights[1])))


def test_gradients_of_the_state_alone(isa: str) -> None:
    case = Case(3, 5, 6, 7, 9, 2, True, "lstm", torch.float32, "dense", "with_zero", True)
    found = []
    for inputs in (build(case), build(case).cast(torch.float64)):
        weights = list(inputs.weights.values())
        with force_backend("cpu" if inputs.x.dtype == torch.float32 else "reference"):
            _, state = length_aware_lstm(inputs.x, inputs.lengths, weights, **inputs.options)
        assert isinstance(state, tuple)
        found.append(torch.autograd.grad(state[1].sum(), [inputs.x, *weights]))
    for a, b in zip(*found):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-5)


def test_a_nan_gradient_arriving_at_padding_stops_there(isa: str) -> None:
    group = Group()
    upstream = torch.ones(9, 12, 40)
    upstream[torch.arange(12) >= group.lengths[:, None]] = NAN
    with force_backend("cpu"):
        gradients = torch.autograd.grad(
            group.one_by_one()[0], [group.inputs[0], *group.weights[0]], upstream
        )
    assert all(x.isfinite().all() for x in gradients)


def test_without_gradients_the_outputs_are_the_same(isa: str) -> None:
    group = Group()
    with force_backend("cpu"):
        want = group.together()
        with torch.no_grad():
            found = group.together()
    assert all(a.equal(b) and not a.requires_grad for a, b in zip(found, want))


def test_second_derivatives(extension: ModuleType) -> None:
    case = Case(5, 3, 4, 3, 4, 1, True, "lstm", torch.float32, "dense", "any", True)
    found = []
    for inputs in (build(case), build(case).cast(torch.float64)):
        weights = list(inputs.weights.values())
        with force_backend("cpu" if inputs.x.dtype == torch.float32 else "reference"):
            output, state = length_aware_lstm(inputs.x, inputs.lengths, weights, **inputs.options)
            total = output.square().sum() + sum(s.square().sum() for s in state or ())
            first = torch.autograd.grad(total, [inputs.x, weights[1]], create_graph=True)
            penalty = sum((g.square().sum() for g in first), torch.zeros(()))
            found.append(torch.autograd.grad(penalty, [inputs.x, *weights]))
    for a, b in zip(*found):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_levels_agree(extension: ModuleType, restore: None) -> None:
    group, results = Group(), []
    for level in extension.isa_levels():
        extension.set_isa(level)
        with force_backend("cpu"):
            results.append(group.with_gradients(group.together()))
    for one, other in pairwise(results):
        for a, b in zip(one, other):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_the_kernel_is_preferred_and_explain_says_why_not(extension: ModuleType) -> None:
    inputs = build(Case(1, 2, 3, 2, 2, 1, True, "lstm", torch.float32, "dense", "any", False))
    for x, cell, reason in (
        (inputs.x, "lstm", "chosen"),
        (inputs.x.double(), "lstm", "input is torch.float64"),
        (inputs.x, "gru", "cell is 'gru'"),
    ):
        text = explain("length_aware_lstm", x, inputs.lengths, [], bidirectional=True, cell=cell)
        (line,) = (line for line in text.splitlines() if line.strip().startswith("cpu"))
        assert reason in line
    group = Group()
    arguments: Any = (group.inputs, group.lengths, group.weights)
    assert "cpu        chosen" in explain("length_aware_lstm_group", *arguments, bidirectional=True)
    inputs_63, weights_63 = [group.inputs[0]] * 63, [group.weights[0]] * 63
    with force_backend("cpu"), pytest.raises(BackendError, match="63 inputs, the kernel takes up"):
        length_aware_lstm_group(inputs_63, group.lengths, weights_63, bidirectional=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, "got 0 inputs and 1 lists"),
        ({"inputs": [torch.zeros(2, 3, 4)] * 2}, "got 2 inputs and 1 lists"),
        ({"inputs": [torch.zeros(2, 3, 5)]}, r"weights\[0\] must be \(8, 5\)"),
        ({"lengths": torch.tensor([4, 1])}, r"lengths must be in \[0, 3\]"),
    ],
)
def test_groups_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "inputs": [torch.zeros(2, 3, 4)],
        "lengths": torch.tensor([1, 3]),
        "weights": [list(nn.LSTM(4, 2).parameters())],
    }
    with pytest.raises(DataError, match=message):
        length_aware_lstm_group(**(arguments | change))
    both = [torch.zeros(2, 3, 4), torch.zeros(2, 2, 4)]
    with pytest.raises(DataError, match="differ in batch or steps"):
        length_aware_lstm_group(both, None, arguments["weights"] * 2)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_a_group_without_samples_or_steps(shape: tuple[int, int]) -> None:
    weights = [list(nn.LSTM(4, 2).parameters())] * 2
    outputs = length_aware_lstm_group([torch.zeros(*shape, 4)] * 2, None, weights)
    assert [tuple(output.shape) for output in outputs] == [(*shape, 2)] * 2


class Encoded(Dataset[Tensor]):
    """A data set that uses the operator to make its items."""

    def __getitem__(self, index: int) -> Tensor:
        torch.manual_seed(index)
        weights = list(nn.LSTM(40, 50).parameters())
        with force_backend("cpu"):
            return length_aware_lstm(torch.randn(16, 30, 40), None, weights)[0].detach()

    def __len__(self) -> int:
        return 4


def test_in_a_forked_worker(extension: ModuleType, restore: None) -> None:
    """After the parent has used the thread pool, which a forked child does not inherit."""
    torch.set_num_threads(2)
    here = [Encoded()[i] for i in range(4)]
    loader = DataLoader(Encoded(), num_workers=1, multiprocessing_context="fork", timeout=60)
    for item, want in zip(loader, here, strict=True):
        assert item[0].equal(want)
