"""The cases themselves: names, contenders, and the work they say that they do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL, Suite, Work
from fusionkit.bench.cases import gated_mask, length_aware_lstm, mult_layer
from fusionkit.bench.cases.cross_attention import SHAPES
from fusionkit.bench.cases.plain_attention import attention_results, attention_work, key_mask
from fusionkit.bench.goals import GOALS
from fusionkit.bench.suites import SUITES, check_names, load_suite
from fusionkit.errors import UnknownNameError
from fusionkit.ops import cross_attention, force_backend


@pytest.fixture(params=SUITES, name="suite")
def loaded_suite(request: pytest.FixtureRequest) -> Suite:
    return load_suite(request.param)


def test_names_are_unique(suite: Suite) -> None:
    titles = [case.title for case in suite.cases]
    assert len(set(titles)) == len(titles)
    for case in suite.cases:
        names = [contender.name for contender in case.contenders]
        assert len(set(names)) == len(names)
        assert sum(contender.role == "ours" for contender in case.contenders) == 1
        assert "torch" in {c.role for c in case.contenders if not c.not_comparable}


def test_a_suite_without_cases_says_why(suite: Suite) -> None:
    assert suite.cases or suite.left_out


def test_every_goal_is_for_cases_that_exist() -> None:
    have = {
        (name, case.group, case.variant, phase)
        for name in SUITES
        for case in load_suite(name).cases
        for phase in case.phases
    }
    contenders = {c.name for n in SUITES for case in load_suite(n).cases for c in case.contenders}
    for goal in GOALS:
        assert (goal.op, goal.group, goal.variant, goal.phase) in have, goal
        assert goal.against in {"best", *contenders}, goal


def test_inputs_are_the_same_every_time(suite: Suite) -> None:
    for case in suite.cases[:1]:
        one, other = case.inputs(), case.inputs()
        assert one.tensors.keys() == other.tensors.keys()
        assert all(torch.equal(x, other.tensors[name]) for name, x in one.tensors.items())


def test_unknown_suite() -> None:
    assert check_names(()) == SUITES
    assert check_names(("model", "model")) == ("model",)
    with pytest.raises(UnknownNameError, match="did you mean 'gated_mask'"):
        check_names(("gated_maks",))


def test_nineteen_shapes_in_four_classes() -> None:
    assert len(set(SHAPES)) == 19
    counts: dict[str, int] = {}
    for shape in SHAPES:
        counts[shape.group] = counts.get(shape.group, 0) + 1
    assert counts == {
        "D<=10 T<=50": 7,
        "D<=10 T>=375": 6,
        "D16-64 T<=50": 3,
        "D>=16 T>=375": 3,
    }


def test_lengths_are_70_percent_on_average() -> None:
    case = next(c for c in load_suite("cross_attention").cases if c.variant == PARTIAL)
    lengths = case.inputs().lengths["key"]
    assert lengths.min() == 8
    assert lengths.max() == 20
    assert abs(lengths.double().mean().item() / 20 - 0.7) < 0.01


def test_work_of_attention_by_hand() -> None:
    # B2 H3 Tq5 D7; 4 and 6 of 6 keys: 10 valid keys, 3 * 5 * 10 = 150 pairs of query and key.
    forward = attention_work(2, 3, 5, 7, 10, FORWARD)
    assert forward.flops == 2 * 2 * 150 * 7
    # query and output 2 * 3 * 5 * 7 = 210 numbers each; key and value 3 * 10 * 7 = 210 each.
    assert forward.bytes == 4 * (210 + 210 + 210 + 210)
    both = attention_work(2, 3, 5, 7, 10, BOTH)
    assert both.flops == 3.5 * forward.flops
    # Backward: query, key, value and gradient read, three gradients written.
    assert both.bytes == forward.bytes + 4 * 7 * 210


def test_work_of_the_others_by_hand() -> None:
    # Ten elements, two gates: 8 for sigmoids, 1 sum, 1 factor, 1 product.
    assert gated_mask.mask_work(10, 2, FORWARD) == Work(110.0, 4.0 * 40)
    # Backward: 8 + 1 again, 6 for the gates' gradients, 1 for x's; 4 read, 3 written.
    assert gated_mask.mask_work(10, 2, BOTH) == Work(110.0 + 160.0, 4.0 * (40 + 70))
    # Nine steps of 3 features, 2 units: two directions of a product (3 + 2) x 8.
    lstm = length_aware_lstm.bilstm_work(9, 3, 2, FORWARD)
    assert lstm.flops == 2 * 9 * 2 * (3 + 2) * 8
    # Input 27, output 9 * 4, weights for each direction 8 * (3 + 2) and two biases of 8.
    assert lstm.bytes == 4 * (27 + 36 + 2 * (40 + 16))
    assert length_aware_lstm.bilstm_work(9, 3, 2, BOTH).flops == 3 * lstm.flops
    # 32 samples, 40 features; 50 queries projected twice, 500 keys twice.
    layer, attention = mult_layer.layer_work(FORWARD), attention_work(32, 8, 50, 5, 16000, FORWARD)
    assert layer.flops - attention.flops == 2 * 32 * (2 * 50 + 2 * 500) * 40 * 40


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_truth_in_chunks_is_the_operators_reference(
    dropout_p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusionkit.bench.cases.plain_attention._CHUNK_SCORES", 2 * 4 * 5)
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(5, 2, steps, 3, generator=generator, dtype=torch.float64) for steps in (4, 5, 5)
    )
    lengths = torch.tensor([5, 1, 2, 3, 4])
    output, gradients = attention_results(
        query, key, value, key_mask(lengths, 5), dropout_p, 3, BOTH
    )
    leaves = [x.clone().requires_grad_() for x in (query, key, value)]
    with force_backend("reference"):
        expected = cross_attention(*leaves, key_lengths=lengths, dropout_p=dropout_p, seed=3)
    torch.testing.assert_close(output, expected.detach())
    from fusionkit.bench.differentiable import fixed_upstream

    upstream = fixed_upstream(expected.shape, expected.dtype)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, leaves, upstream))


def test_inputs_change_precision_and_dropout_only() -> None:
    case = load_suite("mult_layer").cases[0]
    inputs = case.inputs()
    assert inputs.dropout_p == 0.1
    assert inputs.without_dropout() == replace(inputs, dropout_p=0.0)
    assert {x.dtype for x in inputs.to(torch.float64).tensors.values()} == {torch.float64}
    assert case.variant != FULL
