"""One sequence of all features, one encoder, one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, LengthAwareRNN, SequenceEncoder, last_step, onto_one_axis
from fusionkit_plugins.early_fusion.config import EarlyFusionConfig


class LastState(nn.Module):
    """LSTM from left to right; its output at the last valid step.

    Args:
        input_size: features D. hidden_size: units. num_layers: stacked layers.
        dropout: between the layers and on the output.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, num_layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.rnn = LengthAwareRNN(input_size, hidden_size, num_layers=num_layers, dropout=dropout)
        self.dropout = Dropout(dropout)
        self.output_size = hidden_size

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, D) and lengths (B,) to (B, hidden_size); zeros for a length of 0."""
        hidden = self.rnn(x, lengths)[0]
        # Padding is zero, so step 0 stands for a sequence without steps.
        last = last_step(hidden, lengths.clamp(min=1), bidirectional=False)
        output: Tensor = self.dropout(last)
        return output


class EarlyFusion(nn.Module):
    """All modalities on one time axis, their features side by side, one encoder.

    Args:
        config: encoder and time axis. spec: modalities, task and outputs.
    """

    def __init__(self, config: EarlyFusionConfig, spec: DataSpec) -> None:
        super().__init__()
        self.modalities, self.aligned = list(spec.modalities), spec.aligned
        self.time_axis = config.time_axis
        size = sum(spec.modalities.values())
        self.encoder: LastState | SequenceEncoder
        if config.encoder_kind == "lstm":
            self.encoder = LastState(
                size,
                config.hidden_size,
                num_layers=config.encoder_layers,
                dropout=config.encoder_dropout,
            )
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
        output: Tensor = self.classifier(self.dropout(self.encoder(*self.joined(batch))))
        return output

    def joined(self, batch: MultimodalBatch) -> tuple[Tensor, Tensor]:
        """(B, T, sum of D_m) and its lengths (B,)."""
        features = {m: batch.features[m] for m in self.modalities}
        common = batch.lengths[self.modalities[0]]
        if not self.aligned:
            features, common = onto_one_axis(features, batch.lengths, self.time_axis)
        return torch.cat(list(features.values()), dim=-1), common
