"""The evaluation code of MulT (yaohungt/Multimodal-Transformer, ``eval_metrics.py``).

Values are named by the labels that the official code prints. Defects and surprises, kept:

- The F1 of the regression passes (prediction, truth) to a function that wants (truth, prediction),
  so the class counts of the PREDICTION are the weights. On IEMOCAP the order is right.
- ``exclude_zero`` is False by default, but the training script passes True: set ``mult`` leaves
  labels of 0 out, set ``mult-zero`` keeps them and counts them as negative (not > 0).
- Without a non-zero label ``exclude_zero`` raises, also for the metrics that need none.
- IEMOCAP: equal logits mean "off".

Where the official code raises, `UndefinedMetricError` is raised; FusionKit's evaluation reports the
set's values as undefined then.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from fusionkit.errors import DataError
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
    "eval_iemocap_single",
    "eval_senti",
    "weighted_accuracy",
]


def eval_senti(predictions: Tensor, targets: Tensor, exclude_zero: bool) -> dict[str, float]:
    """The evaluation of CMU-MOSI and CMU-MOSEI.

    Args:
        predictions, targets: (N,) or (N, 1) scores.
        exclude_zero: whether "F1 score" and "Accuracy" (> 0) leave out labels of 0.

    Raises:
        UndefinedMetricError: ``exclude_zero``, and no sample has a non-zero label.
    """
    p, y = score_pair(predictions, targets)
    values = {
        "MAE": mean_absolute_error(p, y),
        "Correlation Coefficient": pearson(p, y),
        "mult_acc_7": rounded_accuracy(p, y, 3),
        "mult_acc_5": rounded_accuracy(p, y, 2),
    }
    if exclude_zero:
        kept = non_zero(y)
        p, y = p[kept], y[kept]
    acc, f1 = class_scores(y > 0, p > 0, "prediction")
    return {**values, "F1 score": f1, "Accuracy": acc}


def eval_iemocap(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """``<Emotion>/F1 Score`` and ``<Emotion>/Accuracy`` of four emotions; see `emotion_scores`."""
    values = {}
    for emotion, (acc, f1) in emotion_scores(predictions, targets).items():
        values[f"{emotion}/F1 Score"] = f1
        values[f"{emotion}/Accuracy"] = acc
    return values


def eval_iemocap_single(predictions: Tensor, targets: Tensor, single: int) -> dict[str, float]:
    """The same two values for one emotion.

    Args:
        predictions: (N, 2) logits of "off" and "on". targets: (N,) of 0 and 1.
        single: the emotion, 0 to 3.

    Raises:
        DataError: ``single`` is no emotion.
    """
    if not 0 <= single < len(EMOTIONS):
        raise DataError(f"single: {single} is no emotion, give 0 to {len(EMOTIONS) - 1}")
    on = predictions[:, 1] > predictions[:, 0]
    acc, f1 = class_scores(truth=targets != 0, prediction=on)
    return {f"{EMOTIONS[single]}/F1 Score": f1, f"{EMOTIONS[single]}/Accuracy": acc}


_SENTIMENT = {
    "MAE": False,
    "Correlation Coefficient": True,
    "mult_acc_7": True,
    "mult_acc_5": True,
    "F1 score": True,
    "Accuracy": True,
}

METRIC_SETS = (
    MetricSet(
        name="mult",
        summary="as the code of MulT computes them, labels of 0 left out (its training script)",
        compute={"regression": partial(eval_senti, exclude_zero=True)},
        higher_is_better=_SENTIMENT,
    ),
    MetricSet(
        name="mult-zero",
        summary="as the code of MulT computes them, labels of 0 kept (its function's default)",
        compute={"regression": partial(eval_senti, exclude_zero=False)},
        higher_is_better=_SENTIMENT,
    ),
    MetricSet(
        name="mult-iemocap",
        summary="accuracy and weighted F1 of four emotions, as in the code of MulT",
        compute={"multilabel": eval_iemocap},
        higher_is_better={f"{e}/{m}": True for e in EMOTIONS for m in ("F1 Score", "Accuracy")},
    ),
)
