"""Metrics of sentiment scores in [-3, 3] (CMU-MOSI, CMU-MOSEI) that torchmetrics does not have.

The names follow the field: Acc-7 and Acc-5 are the accuracy of rounded scores; Acc-2 and F1 come
"has-zero" (negative against non-negative) and "non-zero" (negative against positive).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchmetrics import Metric

from fusionkit.evaluation.f1 import accuracy, confusion_matrix, weighted_f1

ZeroRule = Literal["has_zero", "non_zero"]


def rounded_matches(preds: Tensor, target: Tensor, limit: int) -> Tensor:
    """Where two scores (N,) are equal after clipping to +-limit and rounding half to even; bool."""
    return preds.clamp(-limit, limit).round() == target.clamp(-limit, limit).round()


def polarity_counts(preds: Tensor, target: Tensor, zero: ZeroRule) -> Tensor:
    """Counts (2, 2) of the signs of two scores (N,), rows the target; see `PolarityAccuracy`."""
    if zero == "has_zero":
        return confusion_matrix(target >= 0, preds >= 0, 2)
    kept = target != 0
    return confusion_matrix(target[kept] > 0, preds[kept] > 0, 2)


class RoundedAccuracy(Metric):
    r"""Accuracy of scores that are clipped and rounded to 2 limit + 1 classes.

    .. math:: \frac{1}{N} \sum_i [\mathrm{round}(\mathrm{clip}(p_i, \pm l)) =
              \mathrm{round}(\mathrm{clip}(y_i, \pm l))]

    Rounding is half to even: 0.5 -> 0, 1.5 -> 2, 2.5 -> 2. Acc-7 has limit 3, Acc-5 limit 2.
    Source: ``multiclass_acc`` in the evaluation of MulT (Tsai et al., ACL 2019), which later codes
    keep. Without samples the value is nan.

    Args:
        limit: scores are clipped to [-limit, limit], limit >= 1.

    >>> metric = RoundedAccuracy(limit=3)
    >>> metric(torch.tensor([0.5, 1.4, -7.0, 2.5]), torch.tensor([0.0, 1.0, -3.0, 3.0]))
    tensor(0.7500, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, limit: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.limit = limit
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add scores ``preds`` (N,) and ``target`` (N,), float."""
        self.correct += rounded_matches(preds, target, self.limit).sum()
        self.total += target.numel()

    def compute(self) -> Tensor:
        """The accuracy of all samples so far, in [0, 1]."""
        return self.correct.double() / self.total


class _Polarity(Metric):
    """Counts scores by sign: [[true negatives, false positives], [false negatives, hits]]."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor

    def __init__(self, zero: ZeroRule, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if zero not in get_args(ZeroRule):
            raise ValueError(f"zero must be one of {', '.join(get_args(ZeroRule))}, not {zero!r}")
        self.zero: ZeroRule = zero
        self.add_state("confusion", torch.zeros(2, 2, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add scores ``preds`` (N,) and ``target`` (N,), float."""
        self.confusion += polarity_counts(preds, target, self.zero)


class PolarityAccuracy(_Polarity):
    r"""Acc-2: share of samples whose score has the right sign.

    .. math:: \frac{1}{|S|} \sum_{i \in S} [b(p_i) = b(y_i)]

    has_zero: S is every sample and b(x) is x >= 0 (-0.0 is non-negative). non_zero: S is the
    samples with y != 0 and b(x) is x > 0. Source: the two variants of MISA (Hazarika et al., 2020)
    and MMSA. Without a sample in S the value is nan.

    Args:
        zero: ``has_zero`` or ``non_zero``.

    >>> scores, labels = torch.tensor([0.2, -0.1, 0.0, 1.0]), torch.tensor([0.0, 0.0, -1.0, 2.0])
    >>> PolarityAccuracy("has_zero")(scores, labels)
    tensor(0.5000, dtype=torch.float64)
    >>> PolarityAccuracy("non_zero")(scores, labels)
    tensor(1., dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """The accuracy of all samples so far, in [0, 1]."""
        return accuracy(self.confusion)


class PolarityF1(_Polarity):
    r"""Weighted F1 of the sign: the mean of the F1 of both signs, weighted by the true counts.

    .. math:: \sum_c \frac{n_c}{n} \cdot \frac{2 TP_c}{n_c + \hat n_c}

    n_c and \hat n_c count class c in the truth and in the prediction. The variants are those of
    `PolarityAccuracy`. Source: as there; the weights are the counts of the TRUTH, unlike in the
    codes of MulT, MMLatch and MISA. An F1 of 0/0 counts as 0; without a sample the value is nan.

    Args:
        zero: ``has_zero`` or ``non_zero``.

    >>> scores, labels = torch.tensor([1.0, 2.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, -1.0, 0.0])
    >>> PolarityF1("non_zero")(scores, labels)
    tensor(0.5333, dtype=torch.float64)
    """

    def compute(self) -> Tensor:
        """The weighted F1 of all samples so far, in [0, 1]."""
        return weighted_f1(self.confusion)
