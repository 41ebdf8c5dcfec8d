"""The optimum in closed form, against hand calculation and against the decoder itself."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fusionkit.data.cues import bayes_accuracy, draw_cue, optimal_class


def test_no_informative_cue_means_chance() -> None:
    assert bayes_accuracy([], 5) == pytest.approx(0.2)
    assert bayes_accuracy([0.0, 0.0], 5) == pytest.approx(0.2)


@pytest.mark.parametrize("weight", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("num_classes", [2, 3, 7])
def test_one_cue_is_right_as_often_as_its_weight_says(weight: float, num_classes: int) -> None:
    expected = math.exp(weight) / (math.exp(weight) + num_classes - 1)
    assert bayes_accuracy([weight], num_classes) == pytest.approx(expected)


def test_three_equal_binary_cues_are_a_majority_vote() -> None:
    p = math.exp(1) / (math.exp(1) + 1)
    assert bayes_accuracy([1, 1, 1], 2) == pytest.approx(p**3 + 3 * p**2 * (1 - p))


def test_a_weaker_binary_cue_beside_a_stronger_one_changes_nothing() -> None:
    assert bayes_accuracy([2.0, 1.0], 2) == pytest.approx(bayes_accuracy([2.0], 2))


def test_a_certain_cue_gives_certainty() -> None:
    assert bayes_accuracy([0.5, 50.0], 6) == pytest.approx(1.0)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_drawn_cues_are_right_as_often_as_they_should(num_classes: int) -> None:
    generator = np.random.default_rng(0)
    classes = generator.integers(0, num_classes, 40_000)
    cue = draw_cue(classes, num_classes, 1.2, generator)
    p = bayes_accuracy([1.2], num_classes)
    assert abs((cue == classes).mean() - p) < 3 * math.sqrt(p * (1 - p) / 40_000)
    errors = (cue - classes)[cue != classes] % num_classes
    share = np.bincount(errors, minlength=num_classes)[1:] / len(errors)
    assert np.allclose(share, 1 / (num_classes - 1), atol=0.02)


@pytest.mark.parametrize(
    ("weights", "num_classes"),
    [([1.0, 1.0, 1.0, 1.0, 2.0], 4), ([0.5, 2.0, 0.7], 3), ([0.0, 1.5, 1.5], 7), ([0.8] * 5, 2)],
)
def test_closed_form_equals_the_optimal_decoder(weights: list[float], num_classes: int) -> None:
    generator = np.random.default_rng(1)
    count = 100_000
    classes = generator.integers(0, num_classes, count)
    cues = np.stack([draw_cue(classes, num_classes, w, generator) for w in weights], axis=1)
    reached = (optimal_class(cues, weights, num_classes) == classes).mean()
    p = bayes_accuracy(weights, num_classes)
    assert abs(reached - p) < 3 * math.sqrt(p * (1 - p) / count)
