"""Quantities on which the official codes agree; each is computed as they do, in their precision."""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from fusionkit.errors import DataError
from fusionkit.evaluation.f1 import accuracy, confusion_matrix, weighted_f1
from fusionkit.evaluation.undefined import UndefinedMetricError


def score_pair(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Both as (N,) float32.

    Args:
        predictions, targets: (N,) or (N, 1).

    Raises:
        DataError: other shapes, or different N. UndefinedMetricError: N is 0.
    """
    for name, values in (("predictions", predictions), ("targets", targets)):
        if values.numel() != len(values):
            raise DataError(
                f"{name} have shape {tuple(values.shape)}, but these metrics are for one score a "
                "sample: (N,) or (N, 1)"
            )
    if len(predictions) != len(targets):
        raise DataError(f"{len(predictions)} predictions do not fit {len(targets)} targets")
    if not len(targets):
        raise UndefinedMetricError("there is no sample to evaluate")
    return predictions.detach().reshape(-1).float(), targets.detach().reshape(-1).float()


def mean_absolute_error(p: Tensor, y: Tensor) -> float:
    """Mean of |p - y| in float32; numpy's order of summation, so that roundings agree."""
    return float((p - y).abs().numpy().mean())


def pearson(p: Tensor, y: Tensor) -> float:
    """Pearson's r in float64; nan if p or y is constant or there is one sample."""
    # a sum of equal float32 numbers is exact in float64, so a constant has variance 0 exactly
    p, y = (x.double() - x.double().mean() for x in (p, y))
    spread = math.sqrt(float(p @ p)) * math.sqrt(float(y @ y))
    return float(p @ y) / spread if spread else math.nan


def rounded_accuracy(p: Tensor, y: Tensor, limit: int) -> float:
    """Share of equal values after clipping to +-limit and rounding half to even."""
    equal = p.clamp(-limit, limit).round() == y.clamp(-limit, limit).round()
    return int(equal.sum()) / len(y)


def class_scores(
    truth: Tensor,
    prediction: Tensor,
    weights: Literal["truth", "prediction"] = "truth",
    num_classes: int = 2,
) -> tuple[float, float]:
    """Accuracy and weighted F1 of (N,) classes, booleans included; see `weighted_f1`."""
    counts = confusion_matrix(truth, prediction, num_classes)
    return float(accuracy(counts)), float(weighted_f1(counts, weights))


def non_zero(y: Tensor) -> Tensor:
    """Where y is not 0, (N,) bool. The smallest denormal is not 0; -0.0 is.

    Raises:
        UndefinedMetricError: nowhere.
    """
    kept = y != 0
    if not kept.any():
        raise UndefinedMetricError(
            "no sample has a non-zero label, so metrics that leave out zeros are undefined"
        )
    return kept


def weighted_accuracy(predictions: Tensor, targets: Tensor) -> float:
    """(TP (n / p) + TN) / (2 n), with p and n the counts of y > 0 and y <= 0.

    This function is in the files of MulT and MMLatch; neither calls it.

    Raises:
        UndefinedMetricError: p or n is 0 (the official code divides by zero).
    """
    p, y = score_pair(predictions, targets)
    hits = (p > 0) & (y > 0)
    rejections = (p <= 0) & (y <= 0)
    positives = int((y > 0).sum())
    negatives = len(y) - positives
    if not positives or not negatives:
        raise UndefinedMetricError(
            "the weighted accuracy needs labels above 0 and labels that are not: all "
            f"{len(y)} are of one kind"
        )
    balanced = int(hits.sum()) * (negatives / positives) + int(rejections.sum())
    return balanced / (2 * negatives)
