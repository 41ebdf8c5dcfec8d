"""A sequence encoder a modality; the modalities meet in the last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, SequenceEncoder
from fusionkit_plugins.late_fusion.config import LateFusionConfig


class LateFusion(nn.Module):
    """Encode each modality to a vector; then concatenate and classify, or classify and average.

    Args:
        config: encoders and fusion. spec: modalities, task and outputs.
    """

    def __init__(self, config: LateFusionConfig, spec: DataSpec) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(
            {
                name: SequenceEncoder(
                    size,
                    config.hidden_size,
                    kernel_size=config.frontend_kernel,
                    stride=config.frontend_stride,
                    dropout=config.encoder_dropout,
                )
                for name, size in spec.modalities.items()
            }
        )
        size = 4 * config.hidden_size
        self.dropout = Dropout(config.classifier_dropout)
        self.concat = config.fusion == "concat"
        inputs = [len(self.encoders) * size] if self.concat else [size] * len(self.encoders)
        self.classifiers = nn.ModuleList(nn.Linear(n, spec.num_outputs) for n in inputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        vectors = [
            encoder(batch.features[name], batch.lengths[name])
            for name, encoder in self.encoders.items()
        ]
        if self.concat:
            vectors = [torch.cat(vectors, dim=-1)]
        outputs = [layer(self.dropout(v)) for layer, v in zip(self.classifiers, vectors)]
        return outputs[0] if self.concat else torch.stack(outputs).mean(dim=0)
