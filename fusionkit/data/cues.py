"""Cues that vote for a class, and the best accuracy that anyone can reach who sees them.

A cue is a symbol c in 0..K-1 that names the true class y more often than any other one:
P(c | y) is proportional to exp(weight) for c = y and to 1 for each other class. Cues are
independent given y, and y is uniform. The posterior is then a weighted vote,

    log P(y = k | c_1 .. c_n) = const + sum_i weight_i [c_i = k],

and the Bayes-optimal accuracy is the expected largest posterior, a finite sum over all cues.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw_cue(
    classes: NDArray[np.int64], num_classes: int, weight: float, generator: np.random.Generator
) -> NDArray[np.int64]:
    """One cue for each of ``classes`` (N,); ``weight`` >= 0 is in nats, 0 tells nothing."""
    others = np.exp(-weight)
    right = generator.random(len(classes)) < 1 / (1 + (num_classes - 1) * others)
    wrong = (classes + generator.integers(1, num_classes, len(classes))) % num_classes
    return np.where(right, classes, wrong)


def optimal_class(
    cues: NDArray[np.int64], weights: Sequence[float], num_classes: int
) -> NDArray[np.int64]:
    """The most probable class given the cues (N, n): that with the heaviest vote."""
    votes = np.asarray(weights) @ (cues[:, :, None] == np.arange(num_classes))
    return np.asarray(votes.argmax(axis=1), dtype=np.int64)


def bayes_accuracy(weights: Sequence[float], num_classes: int) -> float:
    """Accuracy of the optimal decision from independent cues of these weights, summed exactly.

    The sum has ``num_classes ** n`` terms, where n counts the weights above 0.
    """
    informative = [w for w in weights if w > 0]
    # joint[k, c_1, ..., c_n] = P(y = k, c_1, ..., c_n)
    joint = np.full(num_classes, 1 / num_classes)
    for weight in informative:
        others = np.exp(-weight)
        channel = np.full((num_classes, num_classes), others)
        np.fill_diagonal(channel, 1)
        channel /= 1 + (num_classes - 1) * others
        shape = (num_classes,) + (1,) * (joint.ndim - 1) + (num_classes,)
        joint = joint[..., None] * channel.reshape(shape)
    return float(joint.max(axis=0).sum())
