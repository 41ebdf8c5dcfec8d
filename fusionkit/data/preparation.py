"""What is done to raw features before a model sees them, fitted on the training split alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Preparation:
    """Frame differences as extra channels (optional), then (x - mean) / std for each feature.

    Args:
        deltas: append x[t] - x[t-1] (0 at the first frame) to the features: D_m becomes 2 D_m.
        mean, std: modality -> (D_m,) after the differences; empty for no normalisation.
    """

    deltas: bool = False
    mean: Mapping[str, Array] = field(default_factory=dict)
    std: Mapping[str, Array] = field(default_factory=dict)

    @classmethod
    def fit(cls, store: SequenceStore, *, deltas: bool = False) -> Preparation:
        """Mean and deviation over all frames of ``store``; a constant feature gets std 1."""
        expanded = cls(deltas=deltas).apply(store)
        mean, std = {}, {}
        for modality, flat in expanded.features.items():
            mean[modality] = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
            spread = flat.std(axis=0, dtype=np.float64).astype(np.float32)
            std[modality] = np.where(spread > 1e-6, spread, 1).astype(np.float32)
        return cls(deltas, mean, std)

    def apply(self, store: SequenceStore) -> SequenceStore:
        """The same samples with prepared features."""
        features = {}
        for modality, flat in store.features.items():
            if self.deltas:
                flat = np.concatenate([flat, _differences(flat, store.offsets[modality])], axis=1)
            if modality in self.mean:
                flat = (flat - self.mean[modality]) / self.std[modality]
            features[modality] = np.ascontiguousarray(flat, dtype=np.float32)
        return replace(store, features=features)

    def invert(self, store: SequenceStore) -> SequenceStore:
        """Raw features again, up to rounding: what `apply` would turn into these."""
        features = {}
        for modality, flat in store.features.items():
            if modality in self.mean:
                flat = flat * self.std[modality] + self.mean[modality]
            size = flat.shape[1] // (2 if self.deltas else 1)
            features[modality] = np.ascontiguousarray(flat[:, :size])
        return replace(store, features=features)

    def prepared_spec(self, raw: DataSpec) -> DataSpec:
        """The spec of prepared data: with ``deltas`` every modality is twice as wide."""
        factor = 2 if self.deltas else 1
        return replace(raw, modalities={m: factor * d for m, d in raw.modalities.items()})

    def raw_spec(self, prepared: DataSpec) -> DataSpec:
        """The inverse of `prepared_spec`: what files with new samples must hold."""
        factor = 2 if self.deltas else 1
        return replace(
            prepared, modalities={m: d // factor for m, d in prepared.modalities.items()}
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` reads it back exactly."""
        return {
            "deltas": self.deltas,
            "mean": {m: v.tolist() for m, v in self.mean.items()},
            "std": {m: v.tolist() for m, v in self.std.items()},
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Preparation:
        """The inverse of `to_json`."""
        return cls(
            deltas=bool(content["deltas"]),
            mean={m: np.asarray(v, np.float32) for m, v in content["mean"].items()},
            std={m: np.asarray(v, np.float32) for m, v in content["std"].items()},
        )


def _differences(flat: Array, offsets: NDArray[np.int64]) -> Array:
    difference = np.diff(flat, axis=0, prepend=flat[:1])
    starts = offsets[:-1]
    difference[starts[starts < len(flat)]] = 0
    return difference
