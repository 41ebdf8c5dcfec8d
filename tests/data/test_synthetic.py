"""Generated sequences: the optimum is what is printed, and cues sit where the options put them."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch.nn import functional

from fusionkit.data.cues import bayes_accuracy, optimal_class
from fusionkit.data.synthetic import (
    SyntheticConfig,
    code_words,
    draw_latents,
    joint_weights,
    load_synthetic,
)


def _printed(config: SyntheticConfig) -> tuple[float, float, float, float]:
    """Joint optimum, single optimum, chance, and what the optimal decision reaches on the test."""
    notes = " ".join(load_synthetic(config).notes)
    joint, single, chance, reached = (float(x) for x in re.findall(r"\d\.\d{4}", notes))
    return joint, single, chance, reached


def _one_hot(symbols: NDArray[np.int64], num_classes: int) -> torch.Tensor:
    return functional.one_hot(torch.from_numpy(symbols), num_classes).flatten(1).float()


def _fitted_accuracy(
    symbols: NDArray[np.int64], classes: NDArray[np.int64], num_classes: int
) -> tuple[float, int]:
    """Accuracy on the second half of a linear classifier trained on the first, and its size."""
    inputs, targets = _one_hot(symbols, num_classes), torch.from_numpy(classes)
    half = len(inputs) // 2
    weight = torch.zeros(inputs.shape[1], num_classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(inputs[:half] @ weight, targets[:half])
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    decided = (inputs[half:] @ weight).argmax(1)
    return float((decided == targets[half:]).float().mean()), len(inputs) - half


def test_defaults() -> None:
    data = load_synthetic(SyntheticConfig())
    assert dict(data.spec.modalities) == {"text": 20, "audio": 12, "vision": 8}
    assert (data.spec.task, data.spec.num_outputs, data.spec.aligned) == (
        "classification",
        4,
        False,
    )
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1400, 300, 300]
    lengths = data.train.lengths
    for modality in data.spec.modalities:
        assert (lengths[modality].min(), lengths[modality].max()) == (8, 40)
    assert (lengths["text"] != lengths["audio"]).mean() > 0.9
    assert "Bayes-optimal accuracy: 0.7514 with all" in data.notes[0]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes": 2, "redundancy": 0.5, "uniqueness": 1.5, "synergy": 1.0},
        {"num_classes": 6, "modalities": {"a": 4, "b": 5}},
    ],
)
def test_optimum_equals_monte_carlo_of_the_optimal_decoder(options: dict[str, object]) -> None:
    config = SyntheticConfig.model_validate(options)
    count, k = 60_000, config.num_classes
    latents = draw_latents(config, count, np.random.default_rng(5))
    joint, single, chance, _ = _printed(config)
    assert chance == pytest.approx(1 / k, abs=1e-4)
    weights = joint_weights(config)
    decided = optimal_class(latents.all_cues(), weights, k)
    sigma = 3 * math.sqrt(0.25 / count) + 5e-5
    assert abs((decided == latents.classes).mean() - joint) < sigma
    for modality in config.modalities:
        symbols = latents.symbols(modality)[:, :2]
        own = optimal_class(symbols, [config.redundancy, config.uniqueness], k)
        assert abs((own == latents.classes).mean() - single) < sigma


def test_printed_numbers_are_the_closed_form() -> None:
    config = SyntheticConfig(redundancy=0.7, uniqueness=0.9, synergy=1.1, num_classes=3)
    joint, single, _, _ = _printed(config)
    assert joint == pytest.approx(bayes_accuracy([0.7, 0.9, 0.9, 0.9, 1.1], 3), abs=1e-4)
    assert single == pytest.approx(bayes_accuracy([0.7, 0.9], 3), abs=1e-4)


def test_printed_score_of_the_optimal_decision_is_near_the_optimum() -> None:
    joint, _, _, reached = _printed(SyntheticConfig(samples=4000))
    assert abs(reached - joint) < 3 * math.sqrt(joint * (1 - joint) / 600)


def test_synergy_alone_is_useless_to_a_single_modality() -> None:
    config = SyntheticConfig(redundancy=0, uniqueness=0, synergy=3, num_classes=4)
    joint, single, chance, _ = _printed(config)
    assert single == chance == 0.25
    assert joint == pytest.approx(math.exp(3) / (math.exp(3) + 3), abs=1e-4)
    latents = draw_latents(config, 40_000, np.random.default_rng(0))
    for modality in config.modalities:
        reached, tested = _fitted_accuracy(latents.symbols(modality), latents.classes, 4)
        assert abs(reached - 0.25) < 4 * math.sqrt(0.25 * 0.75 / tested)
    total = (latents.shares["text"] + latents.shares["audio"]) % 4
    assert np.array_equal(total, latents.synergistic)


def test_redundancy_alone_gains_nothing_from_more_modalities() -> None:
    joint, single, _, _ = _printed(SyntheticConfig(redundancy=2, uniqueness=0, synergy=0))
    assert joint == single > 0.25


def test_a_classifier_of_the_true_cues_reaches_the_optimum_and_no_more() -> None:
    config = SyntheticConfig()
    latents = draw_latents(config, 40_000, np.random.default_rng(2))
    reached, tested = _fitted_accuracy(latents.all_cues(), latents.classes, config.num_classes)
    optimum = bayes_accuracy(joint_weights(config), config.num_classes)
    assert abs(reached - optimum) < 3 * math.sqrt(optimum * (1 - optimum) / tested)


@pytest.mark.parametrize("noise", [0.0, 0.5, 0.99])
def test_the_nearest_code_word_of_every_frame_is_the_true_one(noise: float) -> None:
    """Without and with noise, the same seed writes the same code words in the same frames."""
    clean = load_synthetic(SyntheticConfig(samples=60, normalise=False, noise=0))
    noisy = load_synthetic(SyntheticConfig(samples=60, normalise=False, noise=noise))
    for modality in clean.spec.modalities:
        frames = clean.train.features[modality]
        words = np.unique(frames, axis=0)
        kinds = 2 if modality == "vision" else 3
        assert len(words) == kinds * 4 + 1
        distance = np.linalg.norm(noisy.train.features[modality][:, None] - words[None], axis=-1)
        assert np.array_equal(words[distance.argmin(axis=1)], frames)


def test_every_symbol_is_written_in_every_sequence() -> None:
    config = SyntheticConfig(samples=200, normalise=False, noise=0, min_length=3, max_length=9)
    data = load_synthetic(config)
    for modality, kinds in (("text", 3), ("audio", 3), ("vision", 2)):
        for i in range(len(data.train)):
            words = np.unique(data.train.sequence(modality, i), axis=0)
            assert np.any(words, axis=1).sum() == kinds


def test_the_sequences_hold_the_cues_that_the_optimum_counts() -> None:
    """A linear reading of which code words occur, one modality, is as good as its optimum."""
    config = SyntheticConfig(samples=20_000, normalise=False, noise=0, max_length=8, synergy=0)
    data = load_synthetic(config)
    words, inverse = np.unique(data.train.features["vision"], axis=0, return_inverse=True)
    shown = np.zeros((len(data.train), len(words)), np.int64)
    sample = np.repeat(np.arange(len(data.train)), data.train.lengths["vision"])
    shown[sample, inverse] = 1
    classes = np.asarray(data.train.targets, np.int64)
    reached, tested = _fitted_accuracy(shown, classes, 4 if len(words) < 4 else len(words))
    _, optimum, _, _ = _printed(config)
    assert abs(reached - optimum) < 3 * math.sqrt(optimum * (1 - optimum) / tested)


def test_code_words_are_as_far_apart_as_stated() -> None:
    words, distance = code_words(3, 4, 8, np.random.default_rng(0))
    points = np.concatenate([np.zeros((1, 8)), words.reshape(-1, 8)])
    pairs = np.linalg.norm(points[:, None] - points[None], axis=-1)
    assert distance == pytest.approx(pairs[~np.eye(13, dtype=bool)].min())
    assert distance > 0.5


def test_seed_decides_everything() -> None:
    config = SyntheticConfig(samples=50)
    assert load_synthetic(config).sha256 == load_synthetic(config).sha256
    assert (
        load_synthetic(config).sha256 != load_synthetic(SyntheticConfig(samples=50, seed=1)).sha256
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"redundancy": -1}, "redundancy"),
        ({"noise": 1}, "noise"),
        ({"min_length": 9, "max_length": 8}, "max_length 8 is below min_length 9"),
        ({"modalities": {"a": 3}}, "modalities"),
        ({"modalities": {"a": 3, "b": 0}}, "every feature size is at least 1"),
        ({"num_classes": 30}, "use fewer classes or modalities"),
        ({"sample": 100}, "sample"),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SyntheticConfig.model_validate(options)
