"""The evaluation code of MMLatch (georgepar/mmlatch, ``mosei_metrics.py``), defects included.

Defects and surprises, kept:

- Every F1 of the regression passes (prediction, truth) to a function that wants (truth,
  prediction), so the class counts of the PREDICTION are the weights. On IEMOCAP the order is right.
- ``exclude_zero`` of ``eval_mosei_senti`` has no effect; only the older function reads it.
- Without a non-zero label everything raises, also the metrics that need none.
- The suffixes ``pos`` and ``neg`` say where zero counts: ``pos`` compares >= 0, ``neg`` > 0.
- ``weighted_accuracy`` is never called and divides by zero when a class is missing.

Where the official code raises, `UndefinedMetricError` is raised; FusionKit's evaluation reports the
set's values as undefined then.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from fusionkit.evaluation.compatibility.iemocap import EMOTIONS, emotion_scores
from fusionkit.evaluation.compatibility.measures import (
    class_scores,
    mean_absolute_error,
    non_zero,
    pearson,
    rounded_accuracy,
    score_pair,
    weighted_accuracy,
)
from fusionkit.evaluation.metric_set import MetricSet

__all__ = [
    "METRIC_SETS",
    "eval_iemocap",
    "eval_mosei_senti",
    "eval_mosei_senti_old",
    "weighted_accuracy",
]


def eval_mosei_senti(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """The evaluation that MMLatch reports.

    Args:
        predictions, targets: (N,) or (N, 1) scores.

    Returns:
        mae, corr, acc_7, acc_5; f1_pos and bin_acc_pos (>= 0, all samples), f1_neg and bin_acc_neg
        (> 0, all samples), f1 and bin_acc (> 0, samples with a non-zero label).

    Raises:
        UndefinedMetricError: no sample has a non-zero label.
    """
    p, y = score_pair(predictions, targets)
    kept = non_zero(y)
    bin_acc_pos, f1_pos = class_scores(y >= 0, p >= 0, "prediction")
    bin_acc_neg, f1_neg = class_scores(y > 0, p > 0, "prediction")
    bin_acc, f1 = class_scores(y[kept] > 0, p[kept] > 0, "prediction")
    return {
        **_scores(p, y),
        "f1_pos": f1_pos,
        "bin_acc_pos": bin_acc_pos,
        "f1_neg": f1_neg,
        "bin_acc_neg": bin_acc_neg,
        "f1": f1,
        "bin_acc": bin_acc,
    }


def eval_mosei_senti_old(
    predictions: Tensor, targets: Tensor, exclude_zero: bool
) -> dict[str, float]:
    """The older function that the file still holds.

    Args:
        predictions, targets: (N,) or (N, 1) scores.
        exclude_zero: whether f1 (>= 0), f1_neg and bin_acc_neg (> 0) leave out labels of 0.

    Raises:
        UndefinedMetricError: ``exclude_zero``, and no sample has a non-zero label.
    """
    p, y = score_pair(predictions, targets)
    values = _scores(p, y)
    if exclude_zero:
        kept = non_zero(y)
        p, y = p[kept], y[kept]
    _, f1 = class_scores(y >= 0, p >= 0, "prediction")
    bin_acc_neg, f1_neg = class_scores(y > 0, p > 0, "prediction")
    return {**values, "f1": f1, "f1_neg": f1_neg, "bin_acc_neg": bin_acc_neg}


def eval_iemocap(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """``<emotion>_acc`` and ``<emotion>_f1`` of the four emotions; see `emotion_scores`."""
    values = {}
    for emotion, (acc, f1) in emotion_scores(predictions, targets).items():
        values[f"{emotion.lower()}_acc"] = acc
        values[f"{emotion.lower()}_f1"] = f1
    return values


def _scores(p: Tensor, y: Tensor) -> dict[str, float]:
    return {
        "mae": mean_absolute_error(p, y),
        "corr": pearson(p, y),
        "acc_7": rounded_accuracy(p, y, 3),
        "acc_5": rounded_accuracy(p, y, 2),
    }


_SHARED = {"mae": False, "corr": True, "acc_7": True, "acc_5": True}
_OLD = _SHARED | dict.fromkeys(("f1", "f1_neg", "bin_acc_neg"), True)
_BINARY = ("f1_pos", "bin_acc_pos", "f1_neg", "bin_acc_neg", "f1", "bin_acc")

METRIC_SETS = (
    MetricSet(
        name="mmlatch",
        summary="as the code of MMLatch computes them (F1 weighted by predicted counts)",
        compute={"regression": eval_mosei_senti},
        higher_is_better=_SHARED | dict.fromkeys(_BINARY, True),
    ),
    MetricSet(
        name="mmlatch-old",
        summary="an older function in the code of MMLatch, labels of 0 left out",
        compute={"regression": partial(eval_mosei_senti_old, exclude_zero=True)},
        higher_is_better=_OLD,
    ),
    MetricSet(
        name="mmlatch-old-zero",
        summary="an older function in the code of MMLatch, labels of 0 kept",
        compute={"regression": partial(eval_mosei_senti_old, exclude_zero=False)},
        higher_is_better=_OLD,
    ),
    MetricSet(
        name="mmlatch-iemocap",
        summary="accuracy and weighted F1 of four emotions, as in the code of MMLatch",
        compute={"multilabel": eval_iemocap},
        higher_is_better={f"{e.lower()}_{m}": True for e in EMOTIONS for m in ("acc", "f1")},
    ),
)
