"""The sets ``default`` and ``sentiment`` against torchmetrics, the official codes and by hand."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import Tensor, tensor
from torchmetrics.functional import classification, concordance_corrcoef, pearson_corrcoef

from fusionkit.errors import DataError
from fusionkit.evaluation.compatibility.mmsa import eval_mosei_regression
from fusionkit.evaluation.default import (
    METRIC_SETS,
    classification_metrics,
    multilabel_metrics,
    regression_metrics,
    sentiment_metrics,
)


@pytest.fixture(autouse=True)
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_regression_by_hand() -> None:
    values = regression_metrics(tensor([1.0, 2.0, 6.0]), tensor([1.0, 3.0, 2.0]))
    assert values["mae"] == pytest.approx(5 / 3)
    assert values["rmse"] == pytest.approx(math.sqrt(17 / 3))
    # deviations (-2, -1, 3) and (-1, 1, 0)
    assert values["corr"] == pytest.approx(1 / math.sqrt(14 * 2))
    # 2 s_xy / (s_x^2 + s_y^2 + (3 - 2)^2) with n - 1 = 2
    assert values["ccc"] == pytest.approx(2 * 0.5 / (7 + 1 + 1))


def test_regression_with_several_outputs_averages_correlations(generator: torch.Generator) -> None:
    p, y = torch.randn(2, 30, 3, generator=generator).double()
    values = regression_metrics(p, y)
    assert values["corr"] == pytest.approx(float(pearson_corrcoef(p, y).mean()), abs=1e-12)
    assert values["ccc"] == pytest.approx(float(concordance_corrcoef(p, y).mean()), abs=1e-12)
    assert values["mae"] == pytest.approx(float((p - y).abs().mean()), abs=1e-12)


def test_small_scale_does_not_lose_the_correlation(generator: torch.Generator) -> None:
    y = torch.randn(40, generator=generator)
    small = regression_metrics(1e-6 * y, 1e-6 * y)
    assert small["corr"] == pytest.approx(1)
    assert small["ccc"] == pytest.approx(1)


@pytest.mark.parametrize("constant", ["predictions", "targets"])
def test_constant_gives_nan_without_a_warning(constant: str, generator: torch.Generator) -> None:
    fixed, free = torch.full((9,), 0.3), torch.randn(9, generator=generator)
    pair = (fixed, free) if constant == "predictions" else (free, fixed)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = {**regression_metrics(*pair), **sentiment_metrics(*pair)}
    assert math.isnan(values["corr"])
    assert math.isnan(values["ccc"])
    assert values["mae"] == pytest.approx(float((fixed - free).abs().mean()), abs=1e-6)


def test_one_sample() -> None:
    values = regression_metrics(tensor([1.0]), tensor([2.0]))
    assert (values["mae"], values["rmse"]) == (1, 1)
    assert math.isnan(values["corr"])
    assert sentiment_metrics(tensor([1.0]), tensor([1.0]))["acc_7"] == 1


def test_sentiment_equals_mmsa_up_to_its_rounding(generator: torch.Generator) -> None:
    y = torch.randint(-9, 10, (300,), generator=generator) / 3
    p = y + torch.randn(300, generator=generator)
    ours, theirs = sentiment_metrics(p, y), eval_mosei_regression(p, y)
    names = {
        "mae": "MAE",
        "corr": "Corr",
        "acc_7": "Mult_acc_7",
        "acc_5": "Mult_acc_5",
        "acc_2_has_zero": "Has0_acc_2",
        "acc_2_non_zero": "Non0_acc_2",
        "f1_has_zero": "Has0_F1_score",
        "f1_non_zero": "Non0_F1_score",
    }
    assert set(names) == set(ours)
    for name, official in names.items():
        assert ours[name] == pytest.approx(theirs[official], abs=5.1e-5), name


def test_sentiment_without_non_zero_label() -> None:
    values = sentiment_metrics(tensor([0.1, -0.2]), tensor([0.0, 0.0]))
    assert math.isnan(values["acc_2_non_zero"])
    assert math.isnan(values["f1_non_zero"])
    assert values["acc_2_has_zero"] == 0.5


def test_classification_equals_torchmetrics(generator: torch.Generator) -> None:
    logits = torch.randn(200, 5, generator=generator)
    targets = torch.randint(0, 5, (200,), generator=generator)
    values = classification_metrics(logits, targets)
    predicted = logits.argmax(1)
    expected = {
        "accuracy": classification.multiclass_accuracy(predicted, targets, 5, average="micro"),
        "balanced_accuracy": classification.multiclass_recall(predicted, targets, 5),
        "f1_macro": classification.multiclass_f1_score(predicted, targets, 5),
        "f1_weighted": classification.multiclass_f1_score(
            predicted, targets, 5, average="weighted"
        ),
    }
    assert set(values) == set(expected)
    for name, value in expected.items():
        assert values[name] == pytest.approx(float(value), abs=1e-6), name


def test_classes_that_are_absent() -> None:
    # classes: 0 and 1 occur, 2 is only predicted, 3 is nowhere
    logits = torch.eye(4)[[0, 0, 2, 1]]
    values = classification_metrics(logits, tensor([0, 0, 0, 1]))
    assert values["accuracy"] == 0.75
    assert values["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert values["f1_macro"] == pytest.approx((4 / 5 + 1 + 0) / 3)
    assert values["f1_weighted"] == pytest.approx((3 * 4 / 5 + 1) / 4)


def test_first_of_equal_logits_counts() -> None:
    assert classification_metrics(torch.zeros(2, 3), tensor([0, 1]))["accuracy"] == 0.5


def test_multilabel_equals_torchmetrics(generator: torch.Generator) -> None:
    logits = torch.randn(100, 4, generator=generator)
    targets = torch.randint(0, 2, (100, 4), generator=generator).float()
    values = multilabel_metrics(logits, targets)
    on, truth = (logits > 0).int(), targets.int()
    assert values["accuracy"] == pytest.approx(float((on == truth).double().mean()), abs=1e-12)
    macro = classification.multilabel_f1_score(on, truth, 4, average="macro")
    weighted = classification.multilabel_f1_score(on, truth, 4, average="weighted")
    assert values["f1_macro"] == pytest.approx(float(macro), abs=1e-6)
    assert values["f1_weighted"] == pytest.approx(float(weighted), abs=1e-6)


def test_multilabel_logits_are_not_probabilities() -> None:
    # all logits lie in [0, 1], which torchmetrics would take for probabilities
    values = multilabel_metrics(tensor([[0.1, 0.0]]), tensor([[1.0, 0.0]]))
    assert values == {"accuracy": 1.0, "f1_macro": 0.5, "f1_weighted": 1.0}


def test_multilabel_without_positives() -> None:
    values = multilabel_metrics(-torch.ones(3, 2), torch.zeros(3, 2))
    assert values["accuracy"] == 1
    assert values["f1_macro"] == 0
    assert math.isnan(values["f1_weighted"])


def _example(task: str, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    if task == "regression":
        p, y = torch.randn(2, n, generator=generator)
        return p, y
    logits = torch.randn(n, 3, generator=generator)
    if task == "classification":
        return logits, torch.randint(0, 3, (n,), generator=generator)
    return logits, torch.randint(0, 2, (n, 3), generator=generator).float()


@pytest.mark.parametrize("metric_set", METRIC_SETS, ids=lambda s: s.name)
def test_every_value_has_a_direction_and_none_needs_samples(
    metric_set: object, generator: torch.Generator
) -> None:
    (chosen,) = (s for s in METRIC_SETS if s is metric_set)
    names = set()
    for task, compute in chosen.compute.items():
        values = compute(*_example(task, 30, generator))
        assert all(type(value) is float and math.isfinite(value) for value in values.values())
        empty = compute(*_example(task, 0, generator))
        assert set(empty) == set(values)
        assert all(math.isnan(value) for value in empty.values())
        names |= set(values)
    assert names == set(chosen.higher_is_better)


@pytest.mark.parametrize("compute", [regression_metrics, sentiment_metrics])
def test_shapes(compute: object, generator: torch.Generator) -> None:
    function = regression_metrics if compute is regression_metrics else sentiment_metrics
    p, y = torch.randn(2, 12, generator=generator)
    assert function(p[:, None], y) == function(p, y) == function(p, y[:, None])
    with pytest.raises(DataError, match=r"\(11,\) do not fit targets of shape \(12,\)"):
        function(p[:11], y)
