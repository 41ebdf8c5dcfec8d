"""MISA: invariant and specific parts of every modality, and a transformer over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, per_modality
from fusionkit.nn.gradient_reversal import gradient_reversal
from fusionkit_plugins.misa.config import EncoderKind, MISAConfig
from fusionkit_plugins.misa.encoders import build_encoder
from fusionkit_plugins.misa.transformer import PostNormLayer

_ACTIVATIONS = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "leakyrelu": nn.LeakyReLU,
    "hardtanh": nn.Hardtanh,
}


@dataclass(frozen=True)
class Representations:
    """Vectors (B, hidden_size) of every modality, in the data's order.

    Args:
        projected: the utterance in the common size. private: what is specific to the modality.
        shared: what the modalities have in common.
    """

    projected: dict[str, Tensor]
    private: dict[str, Tensor]
    shared: dict[str, Tensor]


class MISA(nn.Module):
    """Projects every utterance, splits it into a private and a shared part, and fuses all parts.

    The shared encoder is one for all modalities, the private ones are not.

    Args:
        config: encoders, sizes and losses. spec: modalities, task and outputs.

    Raises:
        ConfigError: an option names a modality that the data do not have.
    """

    def __init__(self, config: MISAConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, size = config, config.hidden_size
        names = list(spec.modalities)
        kinds = _encoder_kinds(config.encoder, names)
        strides = per_modality("frontend_stride", config.frontend_stride, names)
        self.encoders = nn.ModuleDict()
        self.project, self.private = nn.ModuleDict(), nn.ModuleDict()
        self.reconstruction = nn.ModuleDict()
        activation = _ACTIVATIONS[config.activation]
        for name, features in spec.modalities.items():
            encoder = build_encoder(kinds[name], features, config, strides[name])
            self.encoders[name] = encoder
            self.project[name] = nn.Sequential(
                nn.Linear(encoder.output_size, size), activation(), nn.LayerNorm(size)
            )
            self.private[name] = nn.Sequential(nn.Linear(size, size), nn.Sigmoid())
            self.reconstruction[name] = nn.Linear(size, size)
        self.shared = nn.Sequential(nn.Linear(size, size), nn.Sigmoid())
        self.discriminator = None
        if config.similarity == "adversarial":
            self.discriminator = nn.Sequential(
                nn.Linear(size, size),
                activation(),
                Dropout(config.dropout),
                nn.Linear(size, len(names)),
            )
        self.transformer = nn.Sequential(
            *(
                PostNormLayer(
                    size, config.heads, config.feedforward_size, config.transformer_dropout
                )
                for _ in range(config.transformer_layers)
            )
        )
        count = len(names)
        self.head = nn.Sequential(
            nn.Linear(2 * count * size, count * size),
            Dropout(config.dropout),
            activation(),
            nn.Linear(count * size, spec.num_outputs),
        )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        return self.predict(self.represent(self.utterances(batch)))

    def utterances(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """One vector a modality, (B, output size of its encoder)."""
        return {
            name: encoder(batch.features[name], batch.lengths[name])
            for name, encoder in self.encoders.items()
        }

    def represent(self, utterances: Mapping[str, Tensor]) -> Representations:
        """Project utterance vectors and split them."""
        projected = {name: project(utterances[name]) for name, project in self.project.items()}
        private = {name: encode(projected[name]) for name, encode in self.private.items()}
        shared = {name: self.shared(x) for name, x in projected.items()}
        return Representations(projected, private, shared)

    def predict(self, parts: Representations) -> Tensor:
        """Outputs (B, num_outputs) from all private and shared vectors."""
        sequence = torch.stack([*parts.private.values(), *parts.shared.values()], dim=1)
        output: Tensor = self.head(self.transformer(sequence).flatten(1))
        return output

    def reconstruct(self, parts: Representations) -> dict[str, Tensor]:
        """The projected vectors (B, hidden_size), from the sum of private and shared ones."""
        return {
            name: decode(parts.private[name] + parts.shared[name])
            for name, decode in self.reconstruction.items()
        }

    def domains(self, parts: Representations) -> dict[str, Tensor]:
        """Logits (B, modalities) of the discriminator on the shared vectors, gradients reversed."""
        assert self.discriminator is not None
        return {
            name: self.discriminator(gradient_reversal(x, self.config.reversal_scale))
            for name, x in parts.shared.items()
        }


def _encoder_kinds(
    encoder: EncoderKind | dict[str, EncoderKind], names: list[str]
) -> dict[str, EncoderKind]:
    """Modalities that a dictionary does not name have the paper's encoder."""
    if not isinstance(encoder, dict):
        return dict.fromkeys(names, encoder)
    unknown = sorted(set(encoder) - set(names))
    if unknown:
        raise ConfigError(f"encoder: no modality {unknown[0]!r} in the data ({', '.join(names)})")
    return {name: encoder.get(name, "paper") for name in names}
