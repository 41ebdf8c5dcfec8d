"""The four binary emotion scores of IEMOCAP, as the codes of MulT and MMLatch compute them."""

from __future__ import annotations

from torch import Tensor

from fusionkit.errors import DataError
from fusionkit.evaluation.compatibility.measures import class_scores
from fusionkit.evaluation.undefined import UndefinedMetricError

EMOTIONS = ("Neutral", "Happy", "Sad", "Angry")


def emotion_scores(predictions: Tensor, targets: Tensor) -> dict[str, tuple[float, float]]:
    """Accuracy and weighted F1 (weights: the truth) of each emotion.

    Args:
        predictions: the official layout is (N, 4, 2), the logits of "off" and "on", where a tie
            is "off". (N, 4) is taken as the logits of "on" against 0, so above 0 is "on".
        targets: (N, 4) of 0 and 1.

    Raises:
        DataError: other shapes. UndefinedMetricError: N is 0.
    """
    shape = tuple(targets.shape)
    if shape[1:] != (len(EMOTIONS),) or tuple(predictions.shape) not in (shape, (*shape, 2)):
        raise DataError(
            f"IEMOCAP metrics take predictions (N, 4, 2) or (N, 4) and targets (N, 4), not "
            f"{tuple(predictions.shape)} and {shape}"
        )
    if not len(targets):
        raise UndefinedMetricError("there is no sample to evaluate")
    on = predictions > 0 if predictions.dim() == 2 else predictions[..., 1] > predictions[..., 0]
    return {
        emotion: class_scores(truth=targets[:, i] != 0, prediction=on[:, i])
        for i, emotion in enumerate(EMOTIONS)
    }
