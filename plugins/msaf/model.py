"""MSAF on sequences: recurrent layers a modality, with split attention between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, StagedFusion, per_modality
from fusionkit.nn.layer_fusion import Exchange, LayerFusion
from fusionkit.nn.split_attention import SplitAttention
from fusionkit_plugins.msaf.config import MSAFConfig


class MSAF(nn.Module):
    """The CMU-MOSEI network for any modalities, each with a length of its own.

    Every modality has a stack of recurrent layers; after each layer but the last one the stacks
    exchange by `SplitAttention` over the parts of the time axis. The last layers' vectors, side by
    side, go through one linear layer.

    Args:
        config: sizes and options. spec: modalities, task and outputs.

    Raises:
        ConfigError: a per-modality option names other modalities than the data have.
    """

    def __init__(self, config: MSAFConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        names = list(spec.modalities)

        def split_attention(sizes: Sequence[int]) -> SplitAttention:
            return SplitAttention(
                sizes,
                config.block_size,
                reduction=config.reduction,
                floor=config.attention_floor,
                block_dropout=config.block_dropout,
                block_dropout_mode=config.block_dropout_mode,
                num_segments=config.num_segments,
            )

        self.streams = StagedFusion(
            spec.modalities,
            per_modality("hidden_size", config.hidden_size, names),
            split_attention if config.fusion else None,
            num_stages=config.num_layers,
            stage=config.encoder,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            pooling=config.pooling,
            frontend_size=config.frontend_size,
            frontend_kernel=config.frontend_kernel,
            frontend_strides=per_modality("frontend_stride", config.frontend_stride, names),
            aligned=spec.aligned,
        )
        self.dropout = Dropout(config.classifier_dropout)
        self.classifier = nn.Linear(self.streams.output_size, spec.num_outputs)

    @staticmethod
    def wrap(
        networks: Mapping[str, nn.Module],
        exchanges: Sequence[tuple[Mapping[str, str], Sequence[int]]],
        block_size: int,
        **options: Any,
    ) -> LayerFusion:
        """Put split attention between named layers of networks that exist; their weights stay.

        Args:
            networks: modality -> network, pretrained perhaps.
            exchanges: one after the other, the layer of every modality ({modality: layer's name})
                and its channels in the same order.
            block_size, options: as `fusionkit.nn.split_attention.SplitAttention`.

        Raises:
            ConfigError: an unknown network or layer, or an option out of range.
        """
        return LayerFusion(
            networks,
            [
                Exchange(layers, SplitAttention(channels, block_size, **options))
                for layers, channels in exchanges
            ],
        )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        if self.config.lengths == "padded":
            batch = batch.as_padded()
        fused = self.streams(batch.features, batch.lengths)
        output: Tensor = self.classifier(self.dropout(fused))
        return output
