"""The evaluation code of MSAF on CMU-MOSEI (anita-hu/MSAF, ``cmu_mosei/main_utils.py``).

Defects and surprises, kept:

- A prediction of exactly 0 is a class of its own. The accuracy leaves such samples out, numerator
  AND denominator (all predictions 0: nan); the weighted F1 counts them as misses.
- The validation loss is the plain mean of the batch means, so a short last batch weighs as much as
  a full one; the scores are percentages, but the correlation is not.
- The validation loop raises on one sample, and without a non-zero label.

Where the official code raises, `UndefinedMetricError` is raised; FusionKit's evaluation reports the
set's values as undefined then.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionkit.evaluation.compatibility.measures import non_zero, pearson, score_pair
from fusionkit.evaluation.f1 import accuracy, confusion_matrix, weighted_f1
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.undefined import UndefinedMetricError


def acc_2_f_score(predictions: Tensor, targets: Tensor) -> tuple[float, float, Tensor]:
    """Weighted F1, accuracy, and the confusion matrix of the signs where the label is not 0.

    Args:
        predictions, targets: (N,) or (N, 1) scores.

    Returns:
        F1 (weights: the truth), accuracy (nan if all predictions are 0), and the counts (2, 2) of
        negative and positive, rows the truth, without the predictions of exactly 0.

    Raises:
        UndefinedMetricError: no sample has a non-zero label.
    """
    p, y = score_pair(predictions, targets)
    kept = non_zero(y)
    signs = confusion_matrix(y[kept].sign() + 1, p[kept].sign() + 1, 3)
    polar = signs[::2, ::2]
    return float(weighted_f1(signs)), float(accuracy(polar)), polar


def acc_7(predictions: Tensor, targets: Tensor) -> tuple[float, Tensor]:
    """Accuracy of the rounded scores from -3 to 3, and their counts (7, 7), rows the truth.

    Args:
        predictions, targets: (N,) or (N, 1) scores.
    """
    p, y = (x.round().clamp(-3, 3) + 3 for x in score_pair(predictions, targets))
    counts = confusion_matrix(y, p, 7)
    return float(accuracy(counts)), counts


def evaluate(predictions: Tensor, targets: Tensor) -> dict[str, float]:
    """``acc_7``, ``acc_2`` and ``f_score`` as fractions.

    Raises:
        UndefinedMetricError: no sample has a non-zero label.
    """
    f_score, acc_2, _ = acc_2_f_score(predictions, targets)
    return {"acc_7": acc_7(predictions, targets)[0], "acc_2": acc_2, "f_score": f_score}


def validation(predictions: Tensor, targets: Tensor, batch_size: int) -> dict[str, float]:
    """What the official validation loop reports, with predictions in the order of the loop.

    Args:
        predictions, targets: (N,) or (N, 1) scores.
        batch_size: samples a batch of the loop, at least 1; the last may be shorter.

    Returns:
        loss (mean of the batches' mean absolute errors); acc_7, acc_2 and f_score in percent; corr
        to float32 precision.

    Raises:
        UndefinedMetricError: one sample, or no sample has a non-zero label.
    """
    p, y = score_pair(predictions, targets)
    if len(y) == 1:
        raise UndefinedMetricError("the validation loop of MSAF needs more than one sample")
    errors = (p - y).abs()
    losses = [batch.mean().item() for batch in torch.split(errors, batch_size)]
    scores = {name: 100 * value for name, value in evaluate(p, y).items()}
    corr = float(torch.tensor(pearson(p, y), dtype=torch.float32))
    return {"loss": sum(losses) / len(losses), **scores, "corr": corr}


METRIC_SETS = (
    MetricSet(
        name="msaf",
        summary="as the code of MSAF computes them (predictions of 0 are left out of Acc-2)",
        compute={"regression": evaluate},
        higher_is_better={"acc_7": True, "acc_2": True, "f_score": True},
    ),
)
