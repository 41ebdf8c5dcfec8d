"""Hand-computed tables of counts."""

from __future__ import annotations

import math

import pytest
import torch

from fusionkit.evaluation.f1 import accuracy, class_f1, confusion_matrix, weighted_f1


def test_rows_are_the_truth() -> None:
    counts = confusion_matrix(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 2]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert float(accuracy(counts)) == pytest.approx(2 / 3, abs=1e-15)


def test_weights_of_truth_and_prediction_differ() -> None:
    # truth 3:1, prediction 2:2; F1 is 4/5 and 2/3
    counts = torch.tensor([[2, 1], [0, 1]])
    assert class_f1(counts).tolist() == pytest.approx([4 / 5, 2 / 3])
    assert float(weighted_f1(counts)) == pytest.approx((3 * 4 / 5 + 2 / 3) / 4)
    assert float(weighted_f1(counts, "prediction")) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_absent_class_counts_zero_and_weighs_nothing() -> None:
    counts = torch.tensor([[3, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert class_f1(counts).tolist() == [1.0, 0.0, 0.0]
    assert float(weighted_f1(counts)) == 1.0


def test_no_counts_is_nan() -> None:
    assert math.isnan(float(weighted_f1(torch.zeros(2, 2, dtype=torch.long))))
    assert math.isnan(float(accuracy(torch.zeros(2, 2, dtype=torch.long))))
