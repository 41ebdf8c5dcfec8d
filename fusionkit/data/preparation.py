"""What is done to raw features before a model sees them, fitted on the training split alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore

Array = NDArray[np.float32]
Missing = Literal["error", "zeros"]


@dataclass(frozen=True)
class Preparation:
    """Optional centring and frame differences, then (x - mean) / std for each feature.

    What is known of samples as a whole becomes indices into the values that training has.

    Args:
        missing: ``zeros`` fills modalities of length 0 afterwards, see `DataConfig`.
        centre: modalities whose features lose their mean over each sample, as cepstral mean
            normalisation does with a speaker: where someone stands, how tall someone is.
        deltas: append x[t] - x[t-1] (0 at the first frame) to the features: D_m becomes 2 D_m.
        mean, std: modality -> (D_m,) after the differences; empty for no normalisation.
        context: name -> known values as text, of the indices 1, 2, ...; all others are 0, unknown.
    """

    centre: tuple[str, ...] = ()
    deltas: bool = False
    mean: Mapping[str, Array] = field(default_factory=dict)
    std: Mapping[str, Array] = field(default_factory=dict)
    missing: Missing = "error"
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        store: SequenceStore,
        *,
        centre: Sequence[str] = (),
        deltas: bool = False,
        missing: Missing = "error",
        normalise: bool = True,
    ) -> Preparation:
        """Mean and deviation over all frames of ``store``; a constant feature gets std 1.

        The values of its context are sorted, numbers by size; an empty text stands for unknown.
        """
        mean, std = {}, {}
        if normalise:
            for modality, flat in cls(tuple(centre), deltas).apply(store).features.items():
                mean[modality] = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
                spread = flat.std(axis=0, dtype=np.float64).astype(np.float32)
                std[modality] = np.where(spread > 1e-6, spread, 1).astype(np.float32)
        known = {
            name: tuple(text for text in map(str, np.unique(values).tolist()) if text)
            for name, values in store.context.items()
        }
        return cls(tuple(centre), deltas, mean, std, missing, known)

    def apply(self, store: SequenceStore) -> SequenceStore:
        """The same samples with prepared features, and indices for what is known of them."""
        features = {}
        for modality, flat in store.features.items():
            if modality in self.centre:
                flat = _centred(flat, store.offsets[modality])
            if self.deltas:
                flat = np.concatenate([flat, _differences(flat, store.offsets[modality])], axis=1)
            if modality in self.mean:
                flat = (flat - self.mean[modality]) / self.std[modality]
            features[modality] = np.ascontiguousarray(flat, dtype=np.float32)
        context = {
            name: _indices(store.context.get(name), known, len(store))
            for name, known in self.context.items()
        }
        prepared = replace(store, features=features, context=context)
        return _filled(prepared) if self.missing == "zeros" else prepared

    def invert(self, store: SequenceStore) -> SequenceStore:
        """Raw features up to rounding and centring: `apply` turns them into these again.

        Context becomes text, that of the unknown an empty one.
        """
        features = {}
        for modality, flat in store.features.items():
            if modality in self.mean:
                flat = flat * self.std[modality] + self.mean[modality]
            size = flat.shape[1] // (2 if self.deltas else 1)
            features[modality] = np.ascontiguousarray(flat[:, :size])
        context = {
            name: np.array(["", *known])[store.context[name].astype(np.int64)]
            for name, known in self.context.items()
        }
        return replace(store, features=features, context=context)

    def prepared_spec(self, raw: DataSpec) -> DataSpec:
        """The spec of prepared data: with ``deltas`` every modality is twice as wide."""
        factor = 2 if self.deltas else 1
        return replace(
            raw,
            modalities={m: factor * d for m, d in raw.modalities.items()},
            context={name: len(known) + 1 for name, known in self.context.items()},
        )

    def raw_spec(self, prepared: DataSpec) -> DataSpec:
        """The inverse of `prepared_spec`: what files with new samples must hold."""
        factor = 2 if self.deltas else 1
        return replace(
            prepared,
            modalities={m: d // factor for m, d in prepared.modalities.items()},
            context={},
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` reads it back exactly."""
        return {
            "centre": list(self.centre),
            "deltas": self.deltas,
            "missing": self.missing,
            "mean": {m: v.tolist() for m, v in self.mean.items()},
            "std": {m: v.tolist() for m, v in self.std.items()},
            "context": {name: list(known) for name, known in self.context.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Preparation:
        """The inverse of `to_json`."""
        return cls(
            centre=tuple(content["centre"]),
            deltas=bool(content["deltas"]),
            mean={m: np.asarray(v, np.float32) for m, v in content["mean"].items()},
            std={m: np.asarray(v, np.float32) for m, v in content["std"].items()},
            missing=content.get("missing", "error"),
            context={name: tuple(known) for name, known in content.get("context", {}).items()},
        )


def unknown_context(prepared: SequenceStore, where: str) -> list[str]:
    """One line for each context that is unknown for some samples; ``where`` they come from."""
    counts = {name: int((values == 0).sum()) for name, values in prepared.context.items()}
    return [
        f"{where}: context {name!r} of {count} of {len(prepared)} samples is unknown: no value, or "
        "one that no training sample has"
        for name, count in counts.items()
        if count
    ]


def _indices(
    values: NDArray[np.generic] | None, known: Sequence[str], count: int
) -> NDArray[np.int64]:
    if values is None:
        return np.zeros(count, np.int64)
    index = {text: k for k, text in enumerate(known, start=1)}
    return np.array([index.get(str(value), 0) for value in values.tolist()], dtype=np.int64)


def _centred(flat: Array, offsets: NDArray[np.int64]) -> Array:
    if not len(flat):
        return flat
    counts = np.diff(offsets)
    sums = np.add.reduceat(flat, offsets[:-1][counts > 0], axis=0, dtype=np.float64)
    means = sums / counts[counts > 0, None]
    return (flat - np.repeat(means, counts[counts > 0], axis=0)).astype(np.float32)


def _filled(store: SequenceStore) -> SequenceStore:
    """Zeros for every modality of length 0: the mean of the training data, once normalised."""
    lengths = np.stack(list(store.lengths.values()))
    most, least = lengths.max(axis=0), np.where(lengths == 0, lengths.max(axis=0), lengths).min(0)
    frames = np.where(most == least, most, 1)
    features, new_lengths = dict(store.features), dict(store.lengths)
    for modality, own in store.lengths.items():
        absent = np.flatnonzero(own == 0)
        if not len(absent):
            continue
        at = np.repeat(store.offsets[modality][absent], frames[absent])
        features[modality] = np.insert(store.features[modality], at, np.float32(0), axis=0)
        new_lengths[modality] = np.where(own == 0, frames, own)
    return replace(store, features=features, lengths=new_lengths)


def _differences(flat: Array, offsets: NDArray[np.int64]) -> Array:
    difference = np.diff(flat, axis=0, prepend=flat[:1])
    starts = offsets[:-1]
    difference[starts[starts < len(flat)]] = 0
    return difference
