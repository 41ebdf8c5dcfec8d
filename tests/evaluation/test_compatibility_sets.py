"""The sets around the official codes: names, shapes, what is undefined, known defects."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, tensor

from fusionkit.errors import DataError
from fusionkit.evaluation.compatibility import mmlatch, mmsa, msaf, mult
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.undefined import UndefinedMetricError

SETS = {s.name: s for module in (mmlatch, mmsa, msaf, mult) for s in module.METRIC_SETS}
every_set = pytest.mark.parametrize("metric_set", SETS.values(), ids=SETS)
of_scores = pytest.mark.parametrize(
    "metric_set",
    [s for s in SETS.values() if "regression" in s.compute],
    ids=[name for name, s in SETS.items() if "regression" in s.compute],
)


def example(task: str, n: int = 40) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(n)
    if task == "regression":
        p, y = 2 * torch.randn(2, n, generator=generator)
        return p, y
    if task == "classification":
        logits = torch.randn(n, 3, generator=generator)
        return logits, torch.randint(0, 3, (n,), generator=generator)
    on = torch.randint(0, 2, (n, 4), generator=generator).float()
    return torch.randn(n, 4, generator=generator), on


@every_set
def test_every_value_has_a_direction(metric_set: MetricSet) -> None:
    names = set()
    for task, compute in metric_set.compute.items():
        values = compute(*example(task))
        assert all(type(value) is float and math.isfinite(value) for value in values.values())
        names |= set(values)
    assert names == set(metric_set.higher_is_better)
    errors = {name for name, higher in metric_set.higher_is_better.items() if not higher}
    assert errors == {name for name in names if name.lower() == "mae"}


@every_set
def test_no_sample_is_undefined(metric_set: MetricSet) -> None:
    for task, compute in metric_set.compute.items():
        with pytest.raises(UndefinedMetricError):
            compute(*(x[:0] for x in example(task)))


@of_scores
def test_column_vectors(metric_set: MetricSet) -> None:
    p, y = example("regression")
    compute = metric_set.compute["regression"]
    assert compute(p[:, None], y[:, None]) == compute(p, y) == compute(p, y[:, None])


@of_scores
def test_several_outputs_are_refused(metric_set: MetricSet) -> None:
    with pytest.raises(DataError, match=r"predictions have shape \(6, 2\).*one score a sample"):
        metric_set.compute["regression"](torch.zeros(6, 2), torch.zeros(6, 2))
    with pytest.raises(DataError, match="5 predictions do not fit 6 targets"):
        metric_set.compute["regression"](torch.zeros(5), torch.zeros(6))


@pytest.mark.parametrize("name", ["mmlatch", "mmlatch-old", "mult", "msaf", "mmsa"])
def test_no_non_zero_label_is_undefined(name: str) -> None:
    with pytest.raises(UndefinedMetricError, match="no sample has a non-zero label"):
        SETS[name].compute["regression"](tensor([1.0, -1.0]), tensor([0.0, -0.0]))


def test_all_labels_neutral_is_undefined() -> None:
    with pytest.raises(UndefinedMetricError, match="other than neutral"):
        mmsa.eval_classification(torch.zeros(2, 3), tensor([1, 1]))


def test_weighted_accuracy() -> None:
    # p = 1, n = 3: TP 1, TN 2 -> (1 * 3 + 2) / 6
    value = mult.weighted_accuracy(tensor([1.0, 1, -1, 0]), tensor([2.0, 0, -1, -1]))
    assert value == pytest.approx(5 / 6)
    assert mmlatch.weighted_accuracy is mult.weighted_accuracy
    with pytest.raises(UndefinedMetricError, match="all 2 are of one kind"):
        mult.weighted_accuracy(tensor([1.0, -1.0]), tensor([1.0, 2.0]))


def test_reversed_f1_of_mult() -> None:
    # truth + + + -, prediction + + - -: F1 4/5 and 2/3, weights 1/2 each instead of 3/4 and 1/4
    p, y = tensor([1.0, 1, -1, -1]), tensor([1.0, 1, 1, -1])
    assert mult.eval_senti(p, y, exclude_zero=True)["F1 score"] == pytest.approx(
        (4 / 5 + 2 / 3) / 2
    )
    assert mmlatch.eval_mosei_senti(p, y)["f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert mmsa.eval_mosei_regression(p, y)["Non0_F1_score"] == round((3 * 4 / 5 + 2 / 3) / 4, 4)


def test_non_zero_classification_of_mmsa_is_never_right_on_positives() -> None:
    values = mmsa.eval_classification(10 * torch.eye(3), tensor([0, 1, 2]))
    assert values["Acc_3"] == 1
    assert values["Non0_acc_2"] == 0.5


def test_limits_of_sims_are_float32_and_closed_above() -> None:
    limit = tensor([0.1, -0.1, 0.7, -0.7])
    above = torch.nextafter(limit, torch.full_like(limit, 2.0))
    below = torch.nextafter(limit, torch.full_like(limit, -2.0))
    assert mmsa.eval_sims_regression(limit, below)["Mult_acc_5"] == 1
    assert mmsa.eval_sims_regression(limit, above)["Mult_acc_5"] == 0
    zero = mmsa.eval_sims_regression(tensor([0.0, -0.0]), tensor([-1.0, -5.0]))
    assert zero["Mult_acc_2"] == 1
    assert zero["MAE"] == 1


def test_rounding_of_mmsa_depends_on_the_official_type() -> None:
    # 1/160 is a tie at 4 decimals: 0.0063 as a Python float, 0.0062 as a numpy one
    y = torch.full((160,), -1.0)
    p = torch.full((160,), 3.0)
    p[0] = -1
    values = mmsa.eval_mosei_regression(p, y)
    assert values["Has0_acc_2"] == 0.0063
    assert values["Mult_acc_7"] == 0.0062


def test_zero_predictions_of_msaf() -> None:
    p, y = tensor([0.0, 1, -1, 2]), tensor([1.0, 1, -1, -1])
    f_score, acc_2, counts = msaf.acc_2_f_score(p, y)
    assert counts.tolist() == [[1, 1], [0, 1]]
    assert acc_2 == pytest.approx(2 / 3)
    # of 2 positives one is found, one of the 2 predicted is right; the negatives miss one of 2
    assert f_score == pytest.approx((2 / 4 + 2 / 3) / 2)
    assert math.isnan(msaf.acc_2_f_score(torch.zeros(4), y)[1])


def test_validation_of_msaf_weighs_batches_alike() -> None:
    p, y = tensor([1.0, 1, 1, 5]), torch.ones(4)
    assert msaf.validation(p, y, batch_size=3)["loss"] == pytest.approx(2)
    assert msaf.validation(p, y, batch_size=4)["loss"] == pytest.approx(1)
    with pytest.raises(UndefinedMetricError, match="more than one sample"):
        msaf.validation(p[:1], y[:1], batch_size=3)


@pytest.mark.parametrize("name", ["mult-iemocap", "mmlatch-iemocap"])
def test_iemocap_layouts(name: str) -> None:
    logits, on = example("multilabel")
    compute = SETS[name].compute["multilabel"]
    official = torch.stack([torch.zeros_like(logits), logits], dim=-1)
    assert compute(official, on.long()) == compute(logits, on)
    ties = compute(torch.ones(5, 4, 2), torch.zeros(5, 4))
    assert set(ties.values()) == {1.0}
    with pytest.raises(DataError, match=r"predictions \(N, 4, 2\) or \(N, 4\)"):
        compute(logits[:, :3], on[:, :3])


def test_single_emotion() -> None:
    logits, on = (
        torch.randn(30, 4, 2, generator=torch.Generator().manual_seed(0)),
        torch.ones(30, 4),
    )
    together = mult.eval_iemocap(logits, on)
    for emotion in range(4):
        alone = mult.eval_iemocap_single(logits[:, emotion], on[:, emotion], emotion)
        assert alone.items() <= together.items()
    with pytest.raises(DataError, match="4 is no emotion"):
        mult.eval_iemocap_single(logits[:, 0], on[:, 0], 4)
