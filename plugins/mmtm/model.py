"""MMTM on sequences: recurrent or convolutional stages, with transfer modules between them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, StagedFusion, per_modality
from fusionkit.nn.squeeze_excitation import SqueezeExcitationFusion
from fusionkit_plugins.mmtm.config import MMTMConfig


class MMTM(nn.Module):
    """Stacks of stages that gate each other's channels; their vectors go through a linear layer.

    The paper puts its module between late stages of two convolutional networks; here the stages run
    over the steps of any modalities (ours), and only valid steps are squeezed.

    Args:
        config: sizes and options. spec: modalities, task and outputs.

    Raises:
        ConfigError: a per-modality option names other modalities than the data have, or ``ratio``
            leaves no feature.
    """

    def __init__(self, config: MMTMConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        names = list(spec.modalities)

        def transfer_module(sizes: Sequence[int]) -> SqueezeExcitationFusion:
            return SqueezeExcitationFusion(sizes, ratio=config.ratio, gate_scale=config.gate_scale)

        self.streams = StagedFusion(
            spec.modalities,
            per_modality("hidden_size", config.hidden_size, names),
            transfer_module if config.fusion else None,
            num_stages=config.num_layers,
            stage=config.encoder,
            bidirectional=config.bidirectional,
            kernel_size=config.kernel_size,
            dropout=config.dropout,
            pooling=config.pooling,
            frontend_size=config.frontend_size,
            frontend_kernel=config.frontend_kernel,
            frontend_strides=per_modality("frontend_stride", config.frontend_stride, names),
            aligned=spec.aligned,
        )
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(self.streams.output_size, spec.num_outputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        if self.config.lengths == "padded":
            batch = batch.as_padded()
        fused = self.streams(batch.features, batch.lengths)
        output: Tensor = self.classifier(self.dropout(fused))
        return output
