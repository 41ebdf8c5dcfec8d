"""The evaluation code of MMSA (thuiar/MMSA, ``metricsTop.py``), defects included.

Defects and surprises, kept:

- Every value is rounded to 4 decimals, so an exact tie between two runs may be none.
- Regression on SIMS and SIMSv2 clips predictions and labels to [-1, 1] first, also for MAE and Corr
  (the values look better than they are), and 0 is NEGATIVE there, unlike in Has0 of MOSI. The class
  limits are compared in float32, where 0.1 still belongs to the class that ends with it.
- Classification, Non0: the prediction is 0 or 1, but the truth stays 0 or 2, so that a positive
  prediction can never be right and the values are far too low.
- Without a non-zero (non-neutral) label everything raises, also the metrics that need none.
- A 3-class value of the regression on MOSI is computed officially but not returned.

Where the official code raises, `UndefinedMetricError` is raised; FusionKit's evaluation reports the
set's values as undefined then.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fusionkit.errors import DataError
from fusionkit.evaluation.compatibility.measures import (
    class_scores,
    mean_absolute_error,
    non_zero,
    pearson,
    rounded_accuracy,
    score_pair,
)
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.undefined import UndefinedMetricError

_SIMS_LIMITS = {2: (0.0,), 3: (-0.1, 0.1), 5: (-0.7, -0.1, 0.1, 0.7)}


def eval_mosei_regression(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Regression on MOSI and MOSEI.

    Args:
        predictions, targets: (N,) or (N, 1) scores.

    Raises:
        UndefinedMetricError: no sample has a non-zero label.
    """
    p, y = score_pair(predictions, targets)
    kept = non_zero(y)
    has0_acc, has0_f1 = class_scores(y >= 0, p >= 0)
    non0_acc, non0_f1 = class_scores(y[kept] > 0, p[kept] > 0)
    return {
        "Has0_acc_2": round(has0_acc, 4),
        "Has0_F1_score": round(has0_f1, 4),
        "Non0_acc_2": round(non0_acc, 4),
        "Non0_F1_score": round(non0_f1, 4),
        "Mult_acc_5": _round_scaled(rounded_accuracy(p, y, 2)),
        "Mult_acc_7": _round_scaled(rounded_accuracy(p, y, 3)),
        "MAE": _round_scaled(mean_absolute_error(p, y)),
        "Corr": _round_scaled(pearson(p, y)),
    }


def eval_sims_regression(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Regression on SIMS and SIMSv2.

    Args:
        predictions, targets: (N,) or (N, 1) scores.
    """
    p, y = (x.clamp(-1, 1) for x in score_pair(predictions, targets))
    values = {}
    for num_classes, limits in _SIMS_LIMITS.items():
        acc, f1 = class_scores(_interval(y, limits), _interval(p, limits), num_classes=num_classes)
        values[f"Mult_acc_{num_classes}"] = _round_scaled(acc)
        if num_classes == 2:
            values["F1_score"] = round(f1, 4)
    values["MAE"] = _round_scaled(mean_absolute_error(p, y))
    values["Corr"] = _round_scaled(pearson(p, y))
    return values


def eval_classification(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Classification on any of the data sets.

    Args:
        predictions: (N, 3) logits of negative, neutral and positive; of equal ones the first
            counts. targets: (N,) classes 0, 1, 2.

    Returns:
        Acc_3, F1_score_3; Has0 (positive or not, with the neutral logit ignored) and Non0 (see the
        defect above).

    Raises:
        DataError: other shapes. UndefinedMetricError: all labels are neutral.
    """
    if predictions.shape[1:] != (3,) or targets.shape != predictions.shape[:1]:
        raise DataError(
            "MMSA's classification metrics take predictions (N, 3) and targets (N,), not "
            f"{tuple(predictions.shape)} and {tuple(targets.shape)}"
        )
    polar = targets != 1
    if not polar.any():
        raise UndefinedMetricError(
            "no sample has a label other than neutral, so metrics that leave it out are undefined"
        )
    positive = predictions[:, 2] > predictions[:, 0]
    acc_3, f1_3 = class_scores(targets, predictions.argmax(1), num_classes=3)
    has0_acc, has0_f1 = class_scores(targets == 2, positive)
    non0_acc, non0_f1 = class_scores(targets[polar], positive[polar], num_classes=3)
    values = {
        "Has0_acc_2": has0_acc,
        "Has0_F1_score": has0_f1,
        "Non0_acc_2": non0_acc,
        "Non0_F1_score": non0_f1,
        "Acc_3": acc_3,
        "F1_score_3": f1_3,
    }
    return {name: round(value, 4) for name, value in values.items()}


def _interval(values: Tensor, limits: tuple[float, ...]) -> Tensor:
    """The number of the half-open interval (lower, upper] that holds each value."""
    return torch.bucketize(values, torch.tensor(limits, dtype=values.dtype))


def _round_scaled(value: float) -> float:
    """Round to 4 decimals as numpy does: 0.00625 becomes 0.0062, where Python gives 0.0063.

    Officially accuracies and F1 of scikit-learn are Python floats, everything else is numpy's.
    """
    return float(np.round(value, 4))


_BINARY = ("Has0_acc_2", "Has0_F1_score", "Non0_acc_2", "Non0_F1_score")
_REGRESSION = (*_BINARY, "Mult_acc_5", "Mult_acc_7", "MAE", "Corr")
_SIMS = ("Mult_acc_2", "Mult_acc_3", "Mult_acc_5", "F1_score", "MAE", "Corr")
_CLASSIFICATION = (*_BINARY, "Acc_3", "F1_score_3")

METRIC_SETS = (
    MetricSet(
        name="mmsa",
        summary="as MMSA computes them for MOSI and MOSEI, and for three classes",
        compute={"regression": eval_mosei_regression, "classification": eval_classification},
        higher_is_better={name: name != "MAE" for name in (*_REGRESSION, *_CLASSIFICATION)},
    ),
    MetricSet(
        name="mmsa-sims",
        summary="as MMSA computes them for SIMS and SIMSv2 (scores in [-1, 1]), and three classes",
        compute={"regression": eval_sims_regression, "classification": eval_classification},
        higher_is_better={name: name != "MAE" for name in (*_SIMS, *_CLASSIFICATION)},
    ),
)
