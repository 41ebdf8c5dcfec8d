"""MMLatch: encode, mask the inputs by what the other modalities became, encode again, fuse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import (
    AttentiveRNN,
    ConvFrontend,
    Dropout,
    onto_one_axis,
    per_modality,
    run_together,
)
from fusionkit.nn.top_down import TopDownFeedback
from fusionkit_plugins.mmlatch.config import MMLatchConfig
from fusionkit_plugins.mmlatch.fuser import CrossModalFuser


class MMLatch(nn.Module):
    """Bottom-up top-down fusion for any number of modalities from two on.

    The same encoders run twice: on the inputs, and on the inputs masked by the other modalities'
    first encodings (section 2). Gradients flow through both passes. MMLatch needs one time axis:
    unaligned modalities are brought onto the shortest or longest of each sample first (ours; the
    paper's pipeline averages frames over words).

    Args:
        config: sizes and options. spec: modalities, task and outputs.
    """

    def __init__(self, config: MMLatchConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.aligned = config, spec.aligned
        names = list(spec.modalities)
        layers = per_modality("encoder_layers", config.encoder_layers, names, 1)
        strides = per_modality("frontend_stride", config.frontend_stride, names, 2)
        self.frontends = nn.ModuleDict()
        sizes = dict(spec.modalities)
        if config.frontend_size:
            for name, size in spec.modalities.items():
                self.frontends[name] = ConvFrontend(
                    size,
                    config.frontend_size,
                    kernel_size=config.frontend_kernel,
                    stride=strides[name],
                )
                sizes[name] = config.frontend_size
            self.aligned = spec.aligned and len(set(strides.values())) == 1
        self.encoders = nn.ModuleDict(
            {
                name: AttentiveRNN(
                    size,
                    config.hidden_size,
                    num_layers=layers[name],
                    bidirectional=config.bidirectional,
                    cell=config.encoder,
                    dropout=config.encoder_dropout,
                    residual=config.residual,
                )
                for name, size in sizes.items()
            }
        )
        self.feedback = None if config.mask is None else _feedback(config, sizes)
        self.fuser = CrossModalFuser(
            names,
            config.hidden_size,
            dropout=config.fuser_dropout,
            residual=config.residual,
            padding_takes_part=config.padding_in_fuser,
            pooling=config.pooling,
        )
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(self.fuser.output_size, spec.num_outputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        inputs, lengths = self._inputs(batch)
        if self.feedback is None:
            encoded: Mapping[str, Tensor] = self._encode(inputs, lengths)
        else:
            encoded = self.feedback(
                lambda masked: self._encode(masked, lengths), inputs, dict.fromkeys(inputs, lengths)
            )
        output: Tensor = self.classifier(self.dropout(self.fuser(encoded, lengths)))
        return output

    def explain(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """The learnt masks by ``mask of MODALITY``: (B, T, D) in [0, 1], zero on padding.

        They come before ``mask_scale``. T is the time axis that the model works on, and D the
        features that are masked: those of the data, or the channels of the convolution in front.

        Raises:
            ConfigError: the model has no masks.
        """
        if self.feedback is None:
            raise ConfigError(
                "this MMLatch has no masks to show (mask: none); train one with masks"
            )
        inputs, lengths = self._inputs(batch)
        masks = self.feedback.masks(self._encode(inputs, lengths), dict.fromkeys(inputs, lengths))
        return {f"mask of {name}": mask for name, mask in masks.items()}

    def _inputs(self, batch: MultimodalBatch) -> tuple[dict[str, Tensor], Tensor]:
        if self.config.lengths == "padded":
            batch = batch.as_padded()
        features = {name: batch.features[name] for name in self.encoders}
        lengths = {name: batch.lengths[name] for name in self.encoders}
        for name, frontend in self.frontends.items():
            features[name], lengths[name] = frontend(features[name], lengths[name])
        if self.aligned:
            return features, next(iter(lengths.values()))
        return onto_one_axis(features, lengths, self.config.time_axis)

    def _encode(self, inputs: Mapping[str, Tensor], lengths: Tensor) -> dict[str, Tensor]:
        encoders: dict[str, Any] = dict(self.encoders.items())
        hidden = run_together(
            [encoder.rnn for encoder in encoders.values()],
            [inputs[name] for name in encoders],
            lengths,
        )
        keep = self.config.padding_in_fuser
        return {
            name: encoder.attend(h, lengths, keep_padded_queries=keep)
            for (name, encoder), h in zip(encoders.items(), hidden)
        }


def _feedback(config: MMLatchConfig, sizes: Mapping[str, int]) -> TopDownFeedback:
    assert config.mask is not None
    recurrent = config.mask == "lstm"
    return TopDownFeedback(
        sizes,
        config.hidden_size,
        kind=config.mask,
        includes_own=config.mask_includes_own,
        dropout=config.mask_rnn_dropout if recurrent else config.mask_mlp_dropout,
        mask_dropout=config.mask_dropout,
        mask_dropout_at_eval=config.mask_dropout_at_eval,
        scale=config.mask_scale,
        aligned=True,  # `MMLatch._inputs` has brought all onto one time axis
    )
