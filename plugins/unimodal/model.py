"""One modality, one encoder, one linear layer."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import (
    AttentiveRNN,
    ConvFrontend,
    Dropout,
    SequenceEncoder,
    pool,
    pooled_size,
)
from fusionkit_plugins.unimodal.config import UnimodalConfig


class AttentiveEncoder(nn.Module):
    """MMLatch with everything taken away that needs a second modality, up to its pooling.

    Args:
        input_size: features of the modality. config: sizes.
    """

    def __init__(self, input_size: int, config: UnimodalConfig) -> None:
        super().__init__()
        size = input_size
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
        self.output_size = pooled_size(2 * config.hidden_size, config.pooling)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, input_size) and lengths (B,) to (B, output_size)."""
        if self.frontend is not None:
            x, lengths = self.frontend(x, lengths)
        return pool(self.rnn(self.encoder(x, lengths), lengths), lengths, self.pooling)


class Unimodal(nn.Module):
    """A modality's encoder, dropout and a linear layer.

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
        self.encoder: AttentiveEncoder | SequenceEncoder
        if config.encoder_kind == "attentive":
            self.encoder = AttentiveEncoder(size, config)
        else:
            self.encoder = SequenceEncoder(
                size,
                config.hidden_size,
                kernel_size=config.frontend_kernel,
                stride=config.frontend_stride,
                dropout=config.encoder_dropout,
            )
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(self.encoder.output_size, spec.num_outputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        encoded = self.encoder(batch.features[self.modality], batch.lengths[self.modality])
        output: Tensor = self.classifier(self.dropout(encoded))
        return output
