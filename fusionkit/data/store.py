"""Ragged sequences in memory: flat arrays and lengths, nothing padded until a batch is made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fusionkit.data.batch import MultimodalBatch


@dataclass(frozen=True)
class SequenceStore:
    """N samples of several modalities.

    Args:
        features: modality -> (sum of lengths, D_m) float32, the samples one after another.
        lengths: modality -> (N,) int64.
        targets: (N,) or (N, K): int64 classes, float32 values or 0/1 labels; None if unknown.
        ids: N sample names.
        groups: (N,) subject, actor or video of each sample, or None.
        context: name -> (N,) what is known of a sample as a whole, such as who speaks: integers or
            text before `Preparation`, int64 indices after it.
    """

    features: Mapping[str, NDArray[np.float32]]
    lengths: Mapping[str, NDArray[np.int64]]
    targets: NDArray[np.generic] | None
    ids: Sequence[str]
    groups: NDArray[np.generic] | None = field(default=None)
    context: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def offsets(self) -> dict[str, NDArray[np.int64]]:
        """Modality -> (N+1,) row at which each sample starts."""
        return {
            m: np.concatenate([np.zeros(1, np.int64), np.cumsum(n, dtype=np.int64)])
            for m, n in self.lengths.items()
        }

    def sequence(self, modality: str, index: int) -> NDArray[np.float32]:
        """(T, D_m) view of one sample."""
        start, stop = self.offsets[modality][index : index + 2]
        return self.features[modality][start:stop]

    def batch(self, indices: Sequence[int]) -> MultimodalBatch:
        """The samples of ``indices``, zero-padded at the end to the longest of them."""
        # Imported here: sources are registered and read without torch.
        import torch

        from fusionkit.data.batch import MultimodalBatch

        features, lengths = {}, {}
        for m, flat in self.features.items():
            n = self.lengths[m][list(indices)]
            padded = np.zeros((len(indices), int(n.max(initial=0)), flat.shape[1]), np.float32)
            for row, index in enumerate(indices):
                padded[row, : n[row]] = self.sequence(m, index)
            features[m], lengths[m] = torch.from_numpy(padded), torch.from_numpy(n)
        targets = None if self.targets is None else torch.from_numpy(self.targets[list(indices)])
        context = {name: torch.from_numpy(v[list(indices)]) for name, v in self.context.items()}
        return MultimodalBatch(features, lengths, targets, [self.ids[i] for i in indices], context)

    def select(self, indices: Sequence[int] | NDArray[np.int64]) -> SequenceStore:
        """A store of the chosen samples, in the given order."""
        chosen = [int(i) for i in indices]
        return SequenceStore(
            features={
                m: np.concatenate([flat[:0], *(self.sequence(m, i) for i in chosen)])
                for m, flat in self.features.items()
            },
            lengths={m: n[chosen] for m, n in self.lengths.items()},
            targets=None if self.targets is None else self.targets[chosen],
            ids=[self.ids[i] for i in chosen],
            groups=None if self.groups is None else self.groups[chosen],
            context={name: values[chosen] for name, values in self.context.items()},
        )

    def sha256(self) -> str:
        """Hash of every value, length, target, id and context, in modality order."""
        digest = hashlib.sha256()
        for m in self.features:
            digest.update(m.encode())
            digest.update(np.ascontiguousarray(self.features[m]).data)
            digest.update(np.ascontiguousarray(self.lengths[m]).data)
        if self.targets is not None:
            digest.update(np.ascontiguousarray(self.targets).data)
        digest.update("\n".join(self.ids).encode())
        for name, values in self.context.items():
            digest.update(f"\n{name}\n{values.tolist()}".encode())
        return digest.hexdigest()
