"""Weighted F1 from a table of counts: the one implementation behind every F1 for sentiment."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def confusion_matrix(truth: Tensor, prediction: Tensor, num_classes: int) -> Tensor:
    """Counts (num_classes, num_classes), int64: rows are the truth, columns the prediction.

    Args:
        truth, prediction: (N,) classes in [0, num_classes), of any integer type or bool.
    """
    cell = truth.long() * num_classes + prediction.long()
    return torch.bincount(cell, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion: Tensor) -> Tensor:
    """Share of the counts on the diagonal, float64; nan where there are no counts."""
    return confusion.diagonal().sum().double() / confusion.sum()


def class_f1(confusion: Tensor) -> Tensor:
    """F1 of each class, (num_classes,) float64: 2 TP / (true + predicted), 0 where that is 0/0."""
    hits = 2 * confusion.diagonal().double()
    occurrences = confusion.sum(0) + confusion.sum(1)
    return hits / occurrences.clamp(min=1)


def weighted_f1(confusion: Tensor, weights: Literal["truth", "prediction"] = "truth") -> Tensor:
    """Mean of the class F1 values, weighted by how often each class occurs; a float64 scalar.

    The usual weights are the counts in the truth. Codes that hand the two arguments of
    scikit-learn's ``f1_score`` over in the wrong order (MulT, MMLatch, MISA) weight by the counts
    in the prediction instead; the F1 of one class is the same either way.

    Args:
        confusion: (num_classes, num_classes) counts, rows the truth.
        weights: whose class counts are the weights.

    Returns:
        nan where there are no counts.

    >>> from torch import tensor
    >>> counts = confusion_matrix(tensor([0, 0, 0, 1]), tensor([0, 0, 1, 1]), 2)
    >>> weighted_f1(counts), weighted_f1(counts, weights="prediction")
    (tensor(0.7667, dtype=torch.float64), tensor(0.7333, dtype=torch.float64))
    """
    counts = confusion.sum(1 if weights == "truth" else 0).double()
    return (class_f1(confusion) * counts).sum() / counts.sum()
