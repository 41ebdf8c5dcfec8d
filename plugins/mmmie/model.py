"""MMMIE: encode, mark the tokens by identity, fuse all of them in one transformer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, per_modality, pool, pooled_size
from fusionkit.nn.crossmodal_transformer import TransformerEncoder
from fusionkit_plugins.mmmie.bert import LocalBert
from fusionkit_plugins.mmmie.bounds import InputInformation, PairInformation
from fusionkit_plugins.mmmie.config import MMMIEConfig
from fusionkit_plugins.mmmie.encoders import ModalityEncoder
from fusionkit_plugins.mmmie.identity import (
    ContextEmbedding,
    IdentityEmbedding,
    join_sequences,
)


@dataclass(frozen=True)
class Encoded:
    """The tokens of a batch.

    Args:
        tokens: modality -> (B, T_m, hidden_size). lengths: modality -> (B,).
        context: of the batch, name -> (B,).
    """

    tokens: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor]
    context: Mapping[str, Tensor] = field(default_factory=dict)

    def features(self) -> dict[str, Tensor]:
        """Modality -> (B, hidden_size): the mean token."""
        return {name: pool(x, self.lengths[name], "mean") for name, x in self.tokens.items()}


class MMMIE(nn.Module):
    """A model after the abstract of MMMIE, for any number of modalities from two on.

    Args:
        config: sizes and parts. spec: modalities, task and outputs.

    Raises:
        ConfigError: an option names a modality that the data do not have, or the BERT cannot be
            loaded.
    """

    def __init__(self, config: MMMIEConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        names, hidden = list(spec.modalities), config.hidden_size
        layers = per_modality("encoder_layers", config.encoder_layers, names, 1)
        strides = per_modality("frontend_stride", config.frontend_stride, names, 2)
        readers = _bert(config, names)
        self.encoders = nn.ModuleDict(
            {
                name: ModalityEncoder(
                    size, config, layers=layers[name], stride=strides[name], bert=readers.get(name)
                )
                for name, size in spec.modalities.items()
            }
        )
        self.identity = None
        if config.identity is not None:
            self.identity = IdentityEmbedding(
                names,
                hidden,
                modality="modality" in config.identity,
                position="position" in config.identity,
                max_positions=config.max_positions,
            )
        self.context = None
        if config.identity_context and spec.context:
            self.context = ContextEmbedding(
                spec.context, hidden, dropout=config.identity_context_dropout
            )
        self.fusion = TransformerEncoder(
            hidden,
            config.num_heads,
            config.fusion_layers,
            attention_dropout=config.fusion_dropout,
            residual_dropout=config.fusion_dropout,
            positions=None,
        )
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(pooled_size(hidden, config.pooling), spec.num_outputs)
        self.maximised = self.minimised = None
        if config.maximise is not None:
            self.maximised = PairInformation(
                dict.fromkeys(names, hidden), config.maximise, config.estimator_size
            )
        if config.minimise is not None:
            self.minimised = InputInformation(
                {name: self._encoder(name).input_size for name in names},
                hidden,
                config.minimise,
                config.estimator_size,
            )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        return self.predict(self.encode(batch))

    def check_sample(self, features: Mapping[str, Tensor]) -> None:
        """Raise DataError unless a modality (T, D) that a BERT reads holds its token ids."""
        for name, x in features.items():
            bert = self._encoder(name).bert
            if bert is not None:
                bert.ids(x[None], torch.tensor([len(x)]))

    def encode(self, batch: MultimodalBatch) -> Encoded:
        """The tokens of every modality, before they know of each other."""
        tokens, lengths = {}, {}
        for name, encoder in self.encoders.items():
            tokens[name], lengths[name] = encoder(batch.features[name], batch.lengths[name])
        return Encoded(tokens, lengths, batch.context)

    def inputs(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """Modality -> the vector that stands for its input."""
        return {
            name: self._encoder(name).input_vector(batch.features[name], batch.lengths[name])
            for name in self.encoders
        }

    def predict(self, encoded: Encoded) -> Tensor:
        """Outputs (B, num_outputs) from the tokens."""
        tokens = encoded.tokens if self.identity is None else self.identity(encoded.tokens)
        if self.context is not None:
            whole = self.context(encoded.context)
            tokens = {name: x + whole for name, x in tokens.items()}
        names = list(tokens)
        joined, lengths = join_sequences(
            [tokens[name] for name in names], [encoded.lengths[name] for name in names]
        )
        fused = self.fusion(joined, lengths)
        output: Tensor = self.classifier(self.dropout(pool(fused, lengths, self.config.pooling)))
        return output

    def _encoder(self, name: str) -> ModalityEncoder:
        encoder = self.encoders[name]
        assert isinstance(encoder, ModalityEncoder)
        return encoder


def _bert(config: MMMIEConfig, names: list[str]) -> dict[str, LocalBert]:
    if not config.bert:
        return {}
    name = config.bert_modality or names[0]
    if name not in names:
        raise ConfigError(f"bert_modality: no modality {name!r} in the data ({', '.join(names)})")
    return {name: LocalBert(config.bert, finetune=config.bert_finetune)}
