"""One modality through MMLatch's unimodal encoder, an attentive RNN, pooling and a linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import AttentiveRNN, ConvFrontend, Dropout, pool, pooled_size
from fusionkit_plugins.unimodal.config import UnimodalConfig


class Unimodal(nn.Module):
    """MMLatch with everything taken away that needs a second modality.

    Args:
        config: modality and sizes. spec: modalities, task and outputs.

    Raises:
        ConfigError: the data have no such modality.
    """

    def __init__(self, config: UnimodalConfig, spec: DataSpec) -> None:
        super().__init__()
        self.modality = config.modality or next(iter(spec.modalities))
        if self.modality not in spec.modalities:
            raise ConfigError(
                f"modality: {self.modality!r} is not in the data; they have "
                + ", ".join(spec.modalities)
            )
        size = spec.modalities[self.modality]
        self.frontend = None
        if config.frontend_size:
            self.frontend = ConvFrontend(
                size,
                config.frontend_size,
                kernel_size=config.frontend_kernel,
                stride=config.frontend_stride,
            )
            size = config.frontend_size
        self.encoder = AttentiveRNN(
            size,
            config.hidden_size,
            num_layers=config.encoder_layers,
            bidirectional=config.bidirectional,
            cell=config.encoder,
            dropout=config.encoder_dropout,
            residual=config.residual,
        )
        self.rnn = AttentiveRNN(
            config.hidden_size,
            config.hidden_size,
            merge="concat",
            dropout=config.encoder_dropout,
            residual=config.residual,
        )
        self.pooling = config.pooling
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(
            pooled_size(2 * config.hidden_size, config.pooling), spec.num_outputs
        )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        x, lengths = batch.features[self.modality], batch.lengths[self.modality]
        if self.frontend is not None:
            x, lengths = self.frontend(x, lengths)
        encoded = self.rnn(self.encoder(x, lengths), lengths)
        output: Tensor = self.classifier(self.dropout(pool(encoded, lengths, self.pooling)))
        return output
