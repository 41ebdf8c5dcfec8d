"""Source ``synthetic``: sequences whose best possible accuracy is known exactly.

The class y is uniform over K. Four kinds of cue (see `fusionkit.data.cues`) point at it:

- one redundant cue R, shown in every modality;
- a unique cue U_m for each modality m, shown in m alone;
- one synergistic cue S, split into shares: A uniform over K and B = (S - A) mod K. A is shown in
  the first modality, B in the second: each alone is independent of y, together they give S.

``redundancy``, ``uniqueness`` and ``synergy`` are the weights of these cues in nats. A sample of
modality m is a sequence of random length; each symbol to show has a code word, a vector of D_m
numbers, and is written on a run of frames at a random place, one run for each symbol in random
order; all other frames are 0. Then every frame gets noise, uniform in a ball whose radius is
``noise`` times half the smallest distance between two code words (0 included). Below 1, the
nearest code word of every frame is the true one, so the sequences give the symbols without error
and nothing else about y: the optimum for the sequences is the optimum for the cues,

    joint:      bayes_accuracy([redundancy, uniqueness (once a modality), synergy])
    modality m: bayes_accuracy([redundancy, uniqueness])
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fusionkit.data.assemble import assemble_dataset
from fusionkit.data.cues import bayes_accuracy, draw_cue, optimal_class
from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.source import DataConfig
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore

_MOST_TERMS = 2_000_000


class SyntheticConfig(DataConfig):
    """Options of ``--data synthetic``."""

    samples: int = Field(
        2000, ge=20, description="70 % are trained on, 15 % validated, 15 % tested"
    )
    modalities: dict[str, int] = Field(
        default={"text": 20, "audio": 12, "vision": 8},
        min_length=2,
        description="names and feature sizes; the first two carry the synergistic cue",
    )
    min_length: int = Field(8, ge=3, description="shortest sequence, in frames")
    max_length: int = Field(40, ge=3, description="longest sequence, in frames")
    num_classes: int = Field(4, ge=2, description="number of classes K")
    redundancy: float = Field(
        1.0, ge=0, le=50, description="weight of the cue in every modality, nats"
    )
    uniqueness: float = Field(
        1.0, ge=0, le=50, description="weight of each modality's own cue, nats"
    )
    synergy: float = Field(
        2.0, ge=0, le=50, description="weight of the cue that two must share, nats"
    )
    noise: float = Field(
        0.5, ge=0, lt=1, description="frame noise; at 1 the code words would begin to overlap"
    )
    seed: int = Field(0, ge=0, description="seed of everything that is drawn")

    @model_validator(mode="after")
    def _check(self) -> SyntheticConfig:
        if self.max_length < self.min_length:
            raise ValueError(f"max_length {self.max_length} is below min_length {self.min_length}")
        if any(size < 1 for size in self.modalities.values()):
            raise ValueError("modalities: every feature size is at least 1")
        if self.num_classes ** (len(self.modalities) + 3) > _MOST_TERMS:
            raise ValueError(
                f"num_classes {self.num_classes} with {len(self.modalities)} modalities: the exact "
                f"optimum would take over {_MOST_TERMS} terms; use fewer classes or modalities"
            )
        return self


@dataclass(frozen=True)
class Latents:
    """What lies behind N samples.

    Args:
        classes: (N,). redundant: (N,). unique: modality -> (N,). synergistic: (N,).
        shares: first and second modality -> (N,), their sum modulo K is ``synergistic``.
    """

    classes: NDArray[np.int64]
    redundant: NDArray[np.int64]
    unique: dict[str, NDArray[np.int64]]
    synergistic: NDArray[np.int64]
    shares: dict[str, NDArray[np.int64]]

    def all_cues(self) -> NDArray[np.int64]:
        """(N, modalities + 2), in the order of `joint_weights`."""
        return np.stack([self.redundant, *self.unique.values(), self.synergistic], axis=1)

    def symbols(self, modality: str) -> NDArray[np.int64]:
        """(N, 2 or 3): what the modality shows: redundant cue, unique cue, share."""
        share = [self.shares[modality]] if modality in self.shares else []
        return np.stack([self.redundant, self.unique[modality], *share], axis=1)


def joint_weights(config: SyntheticConfig) -> list[float]:
    """Weights of all cues: redundant, one unique a modality, synergistic."""
    unique = [config.uniqueness] * len(config.modalities)
    return [config.redundancy, *unique, config.synergy]


def draw_latents(config: SyntheticConfig, count: int, generator: np.random.Generator) -> Latents:
    """Classes and cues of ``count`` samples."""
    k = config.num_classes
    classes = generator.integers(0, k, count)
    synergistic = draw_cue(classes, k, config.synergy, generator)
    share = generator.integers(0, k, count)
    first, second, *_ = config.modalities
    return Latents(
        classes=classes,
        redundant=draw_cue(classes, k, config.redundancy, generator),
        unique={m: draw_cue(classes, k, config.uniqueness, generator) for m in config.modalities},
        synergistic=synergistic,
        shares={first: share, second: (synergistic - share) % k},
    )


def code_words(
    kinds: int, num_classes: int, size: int, generator: np.random.Generator
) -> tuple[NDArray[np.float64], float]:
    """(kinds, K, D) code words, and the smallest distance between any two of them and 0.

    The best of 64 random draws is taken, words of norm 1 to 2 (all on one line if D is 1).
    """
    best: NDArray[np.float64]
    best, widest = np.zeros((kinds, num_classes, size)), -1.0
    for _ in range(64):
        words = generator.standard_normal((kinds * num_classes, size))
        words *= generator.uniform(1, 2, (len(words), 1)) / np.linalg.norm(words, axis=1)[:, None]
        points = np.concatenate([np.zeros((1, size)), words])
        distance = np.linalg.norm(points[:, None] - points[None], axis=-1)
        smallest = float(distance[~np.eye(len(points), dtype=bool)].min())
        if smallest > widest:
            best, widest = words.reshape(best.shape), smallest
    return best, widest


def load_synthetic(config: SyntheticConfig) -> MultimodalDataset:
    """Independent samples; the notes give the optimum for all modalities and for each alone."""
    generator = np.random.default_rng(config.seed)
    latents = draw_latents(config, config.samples, generator)
    features, lengths = {}, {}
    for modality, size in config.modalities.items():
        symbols = latents.symbols(modality)
        words, distance = code_words(symbols.shape[1], config.num_classes, size, generator)
        lengths[modality] = generator.integers(
            config.min_length, config.max_length + 1, config.samples, dtype=np.int64
        )
        clean = np.concatenate(
            [
                _write(words, row, n, generator)
                for row, n in zip(symbols, lengths[modality].tolist())
            ]
        )
        noise = _ball(clean.shape, config.noise * distance / 2, generator)
        features[modality] = (clean + noise).astype(np.float32)
    store = SequenceStore(
        features, lengths, latents.classes, [f"{i:06d}" for i in range(config.samples)]
    )
    spec = DataSpec(config.modalities, "classification", config.num_classes)
    train, test = int(0.7 * config.samples), int(0.85 * config.samples)
    order = np.arange(config.samples)
    splits: dict[Split, NDArray[np.int64]] = {
        "train": order[:train],
        "validation": order[train:test],
        "test": order[test:],
    }
    return assemble_dataset(
        store,
        spec,
        splits,
        config,
        name="synthetic",
        where="synthetic",
        split_rule="samples are independent: the first 70 % train, 15 % validation, 15 % test",
        source=f"generated by fusionkit.data.synthetic with seed {config.seed}",
        notes=_optimum(config, latents, splits["test"]),
    )


def _write(
    words: NDArray[np.float64],
    symbols: NDArray[np.int64],
    length: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """(length, D): each symbol's code word on a run of at least half of its stretch of frames."""
    frames = np.zeros((length, words.shape[2]))
    stretch = length // len(symbols)
    for place, kind in enumerate(generator.permutation(len(symbols)).tolist()):
        run = int(generator.integers((stretch + 1) // 2, stretch + 1))
        start = place * stretch + int(generator.integers(0, stretch - run + 1))
        frames[start : start + run] = words[kind, symbols[kind]]
    return frames


def _ball(
    shape: tuple[int, ...], radius: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    direction = generator.standard_normal(shape)
    direction /= np.linalg.norm(direction, axis=-1, keepdims=True)
    return radius * direction * generator.random((*shape[:-1], 1)) ** (1 / shape[-1])


def _optimum(config: SyntheticConfig, latents: Latents, test: NDArray[np.int64]) -> list[str]:
    k, weights = config.num_classes, joint_weights(config)
    joint = bayes_accuracy(weights, k)
    single = bayes_accuracy([config.redundancy, config.uniqueness], k)
    decided = optimal_class(latents.all_cues()[test], weights, k)
    reached = float((decided == latents.classes[test]).mean())
    return [
        f"Bayes-optimal accuracy: {joint:.4f} with all modalities, {single:.4f} with any one alone "
        f"(chance {1 / k:.4f})",
        f"the optimal decision on these {len(test)} test samples: {reached:.4f}",
    ]
