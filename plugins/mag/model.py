"""MAG as a whole method: embed the main modality, shift it by the others, encode, pool."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import (
    AttentionPooling,
    ConvFrontend,
    Dropout,
    LengthAwareRNN,
    pool,
    pooled_size,
)
from fusionkit_plugins.mag.config import MAGConfig
from fusionkit_plugins.mag.gate import MultimodalAdaptationGate
from fusionkit_plugins.mag.main_axis import main_modality, on_main_steps


class MAG(nn.Module):
    """A main modality, shifted at every step by any number of others from one on.

    The gate stands where the released code has it, right after the embedding. The others are
    averaged or repeated onto the main modality's steps where the data are not aligned.

    Args:
        config: sizes and options. spec: modalities, task and outputs.

    Raises:
        ConfigError: the data have no such main modality.
    """

    def __init__(self, config: MAGConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.main = config, main_modality(config.main, spec)
        self.aligned, size = spec.aligned, config.hidden_size
        others = {name: n for name, n in spec.modalities.items() if name != self.main}
        self.convolutions = nn.ModuleDict()
        self.embedding = None
        conv = config.encoder == "conv_bilstm"
        if conv:
            for name, features in spec.modalities.items():
                self.convolutions[name] = ConvFrontend(
                    features,
                    size,
                    kernel_size=config.frontend_kernel,
                    stride=config.frontend_stride,
                )
            others = dict.fromkeys(others, size)
        else:
            self.embedding = nn.Linear(spec.modalities[self.main], size)
        self.gate = MultimodalAdaptationGate(
            size, others, beta=config.beta, dropout=config.gate_dropout
        )
        self.rnn = LengthAwareRNN(
            size,
            size,
            num_layers=config.encoder_layers,
            bidirectional=conv or config.bidirectional,
            cell="gru" if config.encoder == "gru" else "lstm",
        )
        self.encoder_dropout = Dropout(config.encoder_dropout)
        self.pooling = config.pooling or ("attention_max" if conv else "mean")
        encoded = self.rnn.output_size
        if self.pooling == "attention_max":
            self.attention: AttentionPooling | None = AttentionPooling(encoded)
            pooled = 2 * encoded
        else:
            self.attention, pooled = None, pooled_size(encoded, self.pooling)
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(pooled, spec.num_outputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        main, others, lengths = self._on_one_axis(batch)
        hidden = self.encoder_dropout(self.rnn(self.gate(main, others), lengths)[0])
        output: Tensor = self.classifier(self.dropout(self._pool(hidden, lengths)))
        return output

    def _on_one_axis(self, batch: MultimodalBatch) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Embedded main sequence, the others on its steps, and its lengths."""
        features, lengths = dict(batch.features), dict(batch.lengths)
        for name, convolution in self.convolutions.items():
            features[name], lengths[name] = convolution(features[name], lengths[name])
        main, others = on_main_steps(self.main, features, lengths, aligned=self.aligned)
        embedded = main if self.embedding is None else self.embedding(main)
        return embedded, others, lengths[self.main]

    def _pool(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        if self.pooling != "attention_max":
            return pool(hidden, lengths, self.pooling)
        assert self.attention is not None
        return torch.cat([self.attention(hidden, lengths), pool(hidden, lengths, "max")], dim=-1)
