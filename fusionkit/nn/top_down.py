"""Top-down feedback for methods with unimodal encoders: encode, mask the inputs, encode again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.errors import DataError
from fusionkit.nn.feedback import FeedbackMask, MaskKind
from fusionkit.nn.recurrent import run_together
from fusionkit.nn.resample import resample
from fusionkit.ops.lengths import zero_padding

Encode = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class TopDownFeedback(nn.ModuleDict):
    """One `FeedbackMask` a modality, and the two passes (MMLatch, section 2).

    ``x'_m = x_m * mean_k sigmoid(f_mk(h_k))`` over the modalities k whose first encodings h_k mask
    modality m; then ``encode(x')``. Gradients flow through both passes.

    Args:
        modalities: name -> features of the input that is masked, in the order of the sources.
        source_size: features of every encoding.
        kind, dropout, mask_dropout, mask_dropout_at_eval, scale: as `FeedbackMask`.
        includes_own: the modality's own encoding takes part in its mask.
        aligned: all modalities always share one time axis and its lengths. Otherwise a source is
            brought onto the time axis of what it masks (`resample`).

    Raises:
        DataError: one modality without ``includes_own``, or one called ``masks``.
    """

    def __init__(
        self,
        modalities: Mapping[str, int],
        source_size: int,
        *,
        kind: MaskKind = "lstm",
        includes_own: bool = False,
        dropout: float | None = None,
        mask_dropout: float = 0.2,
        mask_dropout_at_eval: bool = False,
        scale: float = 1.0,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self._includes_own, self._aligned = includes_own, aligned
        count = len(modalities) - (not includes_own)
        if count < 1:
            raise DataError("top-down feedback from other modalities needs at least 2 modalities")
        if "masks" in modalities:
            raise DataError("modalities: 'masks' has another meaning in the feedback; rename it")
        for name, size in modalities.items():
            self[name] = FeedbackMask(
                size,
                source_size,
                count,
                kind=kind,
                dropout=dropout,
                mask_dropout=mask_dropout,
                mask_dropout_at_eval=mask_dropout_at_eval,
                scale=scale,
            )

    def forward(
        self, encode: Encode, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """The second encodings.

        Args:
            encode: modality -> (B, T_m, D_m) to modality -> (B, T_m, source_size).
            inputs: modality -> (B, T_m, D_m). lengths: modality -> (B,) in [0, T_m].
        """
        return encode(self._masked(inputs, encode(inputs), lengths))

    def masks(
        self, encoded: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The masks that first encodings give: modality -> (B, T_m, D_m), zero on padding.

        In evaluation they lie in (0, 1). They come before scale and mask dropout: for pictures.
        """
        sources = self._sources(encoded, lengths)
        masks = {}
        for name, block in self._blocks().items():
            masks[name] = zero_padding(block.mask(sources[name], lengths[name]), lengths[name])
        return masks

    def _masked(
        self,
        inputs: Mapping[str, Tensor],
        encoded: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        sources = self._sources(encoded, lengths)
        hidden = self._hidden(sources, lengths)
        return {
            name: mask(inputs[name], sources[name], lengths[name], hidden=hidden[name])
            for name, mask in self._blocks().items()
        }

    def _sources(
        self, encoded: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
    ) -> dict[str, list[Tensor]]:
        """The encodings that mask each modality, on its time axis."""
        return {
            target: [
                self._onto(encoded, lengths, source, target)
                for source in self
                if source != target or self._includes_own
            ]
            for target in self
        }

    def _onto(
        self,
        encoded: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor],
        source: str,
        target: str,
    ) -> Tensor:
        if self._aligned or source == target:
            return encoded[source]
        steps = encoded[target].shape[1]
        moved = resample(encoded[source], lengths[source], lengths[target], most=steps)
        missing = steps - moved.shape[1]
        return torch.nn.functional.pad(moved, (0, 0, 0, missing))

    def _hidden(
        self, sources: Mapping[str, list[Tensor]], lengths: Mapping[str, Tensor]
    ) -> dict[str, Any]:
        """Outputs of the mask LSTMs, from one call where all share a time axis."""
        blocks = self._blocks()
        gates = [gate for mask in blocks.values() for gate in mask.recurrent_gates()]
        if not (self._aligned and gates):
            return dict.fromkeys(blocks)
        flat = [source for own in sources.values() for source in own]
        found = iter(run_together(gates, flat, next(iter(lengths.values()))))
        return {name: [next(found) for _ in own] for name, own in sources.items()}

    def _blocks(self) -> dict[str, Any]:
        return dict(self.items())
