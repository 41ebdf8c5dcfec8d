"""A wrong or unavailable contender: no speed, and a message that says why."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from fusionkit.bench.case import (
    FORWARD,
    FULL,
    OURS,
    Bound,
    Case,
    Contender,
    Inputs,
    NotAvailableError,
    Suite,
    Task,
)
from fusionkit.bench.ceilings import Ceilings
from fusionkit.bench.correctness import CheckFailedError, Truth, compare_results
from fusionkit.bench.differentiable import differentiable
from fusionkit.bench.record import Report
from fusionkit.bench.runner import run_suite
from fusionkit.bench.session import add_suite
from fusionkit.bench.timing import QUICK

CEILINGS = {1: Ceilings(1, 10.0, {"memory": 10.0}, {})}


def doubled(factor: float, inputs: Inputs, phase: str) -> Task:
    leaves = inputs.leaves()
    return differentiable(lambda: [factor * leaves["x"] ** 2], leaves, phase)


def absent(inputs: Inputs, phase: str) -> Task:
    raise NotAvailableError("it is not built")


def reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    return doubled(2.0, inputs, phase).results()


def make_case(*others: Contender, ours: float = 2.0, dropout_p: float = 0.0) -> Case:
    return Case(
        name="three numbers",
        group="small",
        variant=FULL,
        inputs=lambda: Inputs({"x": torch.tensor([1.0, -2.0, 3.0])}, dropout_p=dropout_p),
        reference=reference,
        contenders=(
            Contender("plain", partial(doubled, 2.0)),
            *others,
            Contender("ours", partial(doubled, ours), role="ours"),
        ),
        work={FORWARD: None, "fwd+bwd": None},
        quick=True,
    )


def run(case: Case) -> list[object]:
    return list(run_suite(Suite("fake", (case,)), CEILINGS, QUICK))


def test_right_results_are_timed() -> None:
    records = run_suite(Suite("fake", (make_case(),)), CEILINGS, QUICK)
    assert [record.phase for record in records] == ["fwd", "fwd+bwd"]
    for record in records:
        assert set(record.seconds) == {"plain", "ours"}
        assert record.best == "plain"
        assert record.errors["ours"] <= 1.0


@pytest.mark.parametrize("who", ["ours", "wrong"])
def test_a_wrong_result_is_refused_before_anything_is_timed(
    who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fusionkit.bench.runner.time_interleaved", None)
    if who == "ours":
        case = make_case(ours=2.001)
    else:
        case = make_case(Contender("wrong", partial(doubled, 1.9)))
    with pytest.raises(CheckFailedError, match=f"three numbers, full, fwd: {who}: output 0 is off"):
        run(case)


def test_a_refused_suite_leaves_no_record() -> None:
    report = Report({}, {})
    suite = Suite("fake", (make_case(), replace(make_case(ours=3.0), name="second")))
    assert add_suite(report, suite, CEILINGS, quick=True) == []
    assert report.records == []
    assert report.classes == []
    assert report.refused["fake"].startswith("second, full, fwd: ours: output 0 is off by")


def test_a_wrong_gradient_is_refused() -> None:
    def broken(inputs: Inputs, phase: str) -> Task:
        leaves = inputs.leaves()
        x = leaves["x"]
        return differentiable(lambda: [2.0 * x.detach() * x], leaves, phase)

    with pytest.raises(CheckFailedError, match=r"fwd\+bwd: broken: gradient of x is off"):
        run(make_case(Contender("broken", broken)))


def test_other_names_or_shapes_are_refused() -> None:
    right = {"output 0": torch.zeros(2)}
    with pytest.raises(CheckFailedError, match="gives loss instead of output 0"):
        compare_results({"loss": torch.zeros(2)}, right, right, OURS)
    with pytest.raises(CheckFailedError, match=r"output 0 is \(3,\) instead of \(2,\)"):
        compare_results({"output 0": torch.zeros(3)}, right, right, OURS)


def test_nan_never_passes() -> None:
    right = {"output 0": torch.ones(2)}
    check = compare_results({"output 0": torch.tensor([1.0, math.nan])}, right, right, OURS)
    assert check.share == math.inf


def test_bound_is_twice_the_plain_error_and_some_eps() -> None:
    truth = {"a": torch.tensor([4.0], dtype=torch.float64), "b": torch.zeros(1)}
    plain = {"a": torch.tensor([4.5]), "b": torch.zeros(1)}
    got = {"a": torch.tensor([5.0]), "b": torch.zeros(1)}
    check = compare_results(got, truth, plain, Bound(2.0, 0.25))
    assert (check.result, check.error, check.allowed) == ("a", 1.0, 2 * 0.5 + 0.25 * 4.0)
    assert check.share == 0.5


def test_an_absent_contender_is_left_out_with_its_reason() -> None:
    records = run_suite(Suite("fake", (make_case(Contender("absent", absent)),)), CEILINGS, QUICK)
    assert records[0].left_out == {"absent": "it is not built"}
    assert "absent" not in records[0].seconds


def test_what_takes_long_to_start_is_left_out_of_quick_runs() -> None:
    case = make_case(Contender("slow", absent, slow_start=True))
    record = run_suite(Suite("fake", (case,)), CEILINGS, QUICK, quick=True)[0]
    assert record.left_out == {"slow": "left out by --quick"}
    none = replace(case, quick=False)
    assert run_suite(Suite("fake", (none,)), CEILINGS, QUICK, quick=True) == []


def test_own_dropout_is_checked_without_dropout() -> None:
    def noisy(inputs: Inputs, phase: str) -> Task:
        return doubled(2.0 if inputs.dropout_p == 0.0 else 7.0, inputs, phase)

    case = make_case(dropout_p=0.5)
    truth = Truth(case)
    own = Contender("own", noisy, own_dropout=True)
    check = truth.check(own, own.prepare(truth.inputs, FORWARD), FORWARD)
    assert check is not None
    assert check.share <= 1.0
    keyed = Contender("keyed", noisy)
    with pytest.raises(CheckFailedError):
        truth.check(keyed, keyed.prepare(truth.inputs, FORWARD), FORWARD)


def test_what_computes_something_else_is_timed_but_never_the_best() -> None:
    other = Contender("other", partial(doubled, 9.0), not_comparable="over the padding")
    record = run_suite(Suite("fake", (make_case(other),)), CEILINGS, QUICK)[0]
    assert "other" in record.seconds
    assert record.comparable == ("plain",)
    assert "other" not in record.errors
