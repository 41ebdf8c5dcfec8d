"""The one batch type that every method takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class MultimodalBatch:
    """Padded sequences of several modalities; padding is at the end of the time axis.

    Args:
        features: modality -> (B, T_m, D_m) float.
        lengths: modality -> (B,) int64, each in [0, T_m].
        targets: (B,) or (B, num_outputs), or None when predicting.
        ids: B sample names, or empty.
        context: name -> (B,) int64, what is known of a sample as a whole (who speaks, say); each in
            [0, `DataSpec.context`), 0 for unknown.
    """

    features: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor]
    targets: Tensor | None = None
    ids: list[str] = field(default_factory=list)
    context: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.lengths.values())))

    def as_padded(self) -> MultimodalBatch:
        """The batch as released codes often take it: padding counts as data."""
        lengths = {
            m: torch.full_like(n, self.features[m].shape[1]) for m, n in self.lengths.items()
        }
        return replace(self, lengths=lengths)

    def padded_to(self, steps: Mapping[str, int]) -> MultimodalBatch:
        """The batch with zeros at the end of the time axis, up to ``steps[m]`` >= T_m steps."""
        return replace(
            self,
            features={
                m: F.pad(x, (0, 0, 0, steps[m] - x.shape[1])) for m, x in self.features.items()
            },
        )

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> MultimodalBatch:
        """The batch on ``device``; ``dtype`` converts the features only."""
        targets = self.targets
        return replace(
            self,
            features={m: x.to(device=device, dtype=dtype) for m, x in self.features.items()},
            lengths={m: n.to(device) for m, n in self.lengths.items()},
            targets=None if targets is None else targets.to(device),
            context={name: index.to(device) for name, index in self.context.items()},
        )
