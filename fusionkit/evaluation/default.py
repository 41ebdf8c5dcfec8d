"""FusionKit's own metric sets: ``default`` for every task, ``sentiment`` for scores in [-3, 3].

What is undefined (the correlation of a constant, Acc-2 without a non-zero label, anything without
samples) is nan, never an exception.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

from torch import Tensor
from torchmetrics.functional import (
    concordance_corrcoef,
    mean_absolute_error,
    mean_squared_error,
    pearson_corrcoef,
)
from torchmetrics.functional.classification import (
    multiclass_confusion_matrix,
    multilabel_confusion_matrix,
)

from fusionkit.errors import DataError
from fusionkit.evaluation.f1 import accuracy, class_f1, weighted_f1
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.sentiment import polarity_counts, rounded_matches


def regression_metrics(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """MAE, RMSE, Pearson's r and Lin's concordance (from n - 1 variances, as in torchmetrics).

    Args:
        predictions: (N,) or (N, K). targets: the same number of values.

    Returns:
        mae and rmse over all values; corr and ccc averaged over the K outputs, nan if one output
        is constant in the predictions or targets.
    """
    predictions, targets = _pair(predictions, targets)
    if not targets.numel():
        return dict.fromkeys(("mae", "rmse", "corr", "ccc"), math.nan)
    return {
        "mae": float(mean_absolute_error(predictions, targets)),
        "rmse": float(mean_squared_error(predictions, targets, squared=False)),
        "corr": _quietly(pearson_corrcoef, predictions, targets),
        "ccc": _quietly(concordance_corrcoef, predictions, targets),
    }


def sentiment_metrics(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """MAE, Pearson's r, Acc-7, Acc-5, and Acc-2 and weighted F1 with and without zeros.

    Args:
        predictions: (N,) or (N, 1) scores, meant for [-3, 3]. targets: as many.
    """
    predictions, targets = (x.reshape(-1) for x in _pair(predictions, targets))
    if not targets.numel():
        return dict.fromkeys(_SENTIMENT, math.nan)
    has_zero = polarity_counts(predictions, targets, "has_zero")
    non_zero = polarity_counts(predictions, targets, "non_zero")
    return {
        "mae": float(mean_absolute_error(predictions, targets)),
        "corr": _quietly(pearson_corrcoef, predictions, targets),
        "acc_7": float(rounded_matches(predictions, targets, 3).double().mean()),
        "acc_5": float(rounded_matches(predictions, targets, 2).double().mean()),
        "acc_2_has_zero": float(accuracy(has_zero)),
        "acc_2_non_zero": float(accuracy(non_zero)),
        "f1_has_zero": float(weighted_f1(has_zero)),
        "f1_non_zero": float(weighted_f1(non_zero)),
    }


def classification_metrics(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Accuracy, balanced accuracy, macro and weighted F1 of the class with the largest logit.

    Args:
        predictions: (N, C) logits; of equal logits the first counts. targets: (N,) in [0, C).

    Returns:
        balanced_accuracy: mean recall of the classes that occur in the targets. f1_macro: mean F1
        of the classes that occur in the targets or predictions. f1_weighted: weights are the
        counts in the targets.
    """
    if not targets.numel():
        return dict.fromkeys(("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted"), math.nan)
    counts: Tensor = multiclass_confusion_matrix(
        predictions.argmax(1), targets.long(), predictions.shape[1], validate_args=False
    )
    true = counts.sum(1)
    present = true + counts.sum(0) > 0
    recall = counts.diagonal().double() / true
    return {
        "accuracy": float(accuracy(counts)),
        "balanced_accuracy": float(recall[true > 0].mean()),
        "f1_macro": float(class_f1(counts)[present].mean()),
        "f1_weighted": float(weighted_f1(counts)),
    }


def multilabel_metrics(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """Hamming accuracy, macro and weighted F1 of the labels whose logit is above 0.

    Args:
        predictions: (N, K) logits. targets: (N, K) of 0 and 1.

    Returns:
        accuracy: mean over all N K decisions. f1_macro: mean of the K F1 values of "on", one of
        0/0 counting 0. f1_weighted: weights are the positive targets of each label, nan if none.
    """
    if not targets.numel():
        return dict.fromkeys(("accuracy", "f1_macro", "f1_weighted"), math.nan)
    counts: Tensor = multilabel_confusion_matrix(
        (predictions > 0).long(), targets.long(), predictions.shape[1], validate_args=False
    )
    positives = counts[:, 1, :].sum(1).double()
    predicted = counts[:, :, 1].sum(1)
    f1 = 2 * counts[:, 1, 1] / (positives + predicted).clamp(min=1)
    return {
        "accuracy": float(counts.diagonal(dim1=1, dim2=2).sum().double() / counts.sum()),
        "f1_macro": float(f1.mean()),
        "f1_weighted": float((f1 * positives).sum() / positives.sum()),
    }


def _pair(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if predictions.numel() != targets.numel():
        raise DataError(
            f"predictions of shape {tuple(predictions.shape)} do not fit targets of shape "
            f"{tuple(targets.shape)}"
        )
    return predictions.double(), targets.double().reshape(predictions.shape)


def _quietly(
    correlation: Callable[[Tensor, Tensor], Tensor], predictions: Tensor, targets: Tensor
) -> float:
    if len(targets) < 2:
        return math.nan
    with warnings.catch_warnings():
        # torchmetrics warns of every constant prediction; nan says it already
        warnings.simplefilter("ignore")
        return float(correlation(predictions, targets).mean())


_SENTIMENT = (
    "mae",
    "corr",
    "acc_7",
    "acc_5",
    "acc_2_has_zero",
    "acc_2_non_zero",
    "f1_has_zero",
    "f1_non_zero",
)

METRIC_SETS = (
    MetricSet(
        name="default",
        summary="the usual metrics of each task: errors and correlations, accuracies, F1",
        compute={
            "regression": regression_metrics,
            "classification": classification_metrics,
            "multilabel": multilabel_metrics,
        },
        higher_is_better={
            "mae": False,
            "rmse": False,
            "corr": True,
            "ccc": True,
            "accuracy": True,
            "balanced_accuracy": True,
            "f1_macro": True,
            "f1_weighted": True,
        },
    ),
    MetricSet(
        name="sentiment",
        summary="sentiment scores in [-3, 3]: MAE, r, Acc-7, Acc-5, Acc-2 and F1 of both variants",
        compute={"regression": sentiment_metrics},
        higher_is_better={name: name != "mae" for name in _SENTIMENT},
    ),
)
