"""The sub-networks of TFN and LMF, built from their options."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import check_modalities, per_modality
from fusionkit.nn.tensor_fusion import MeanSubNetwork, RecurrentSubNetwork, SequenceSubNetwork
from fusionkit_plugins.tfn.config import SubNetworkConfig


class SubNetworks(nn.Module):
    """One vector of each modality, in the data's order.

    Args:
        config: sizes and kind. spec: the modalities.

    Raises:
        ConfigError: the options name a modality that the data lack.
    """

    def __init__(self, config: SubNetworkConfig, spec: DataSpec) -> None:
        super().__init__()
        names = list(spec.modalities)
        recurrent = names[:1] if config.recurrent is None else list(config.recurrent)
        check_modalities("recurrent", recurrent, spec.modalities)
        sizes = per_modality("hidden_size", config.hidden_size, spec.modalities, 16)
        self.padded = config.lengths == "padded"
        self.of = nn.ModuleDict()
        for name, size in spec.modalities.items():
            self.of[name] = _subnetwork(config, size, sizes[name], name in recurrent)
        modules: dict[str, Any] = dict(self.of.items())
        self.output_sizes: dict[str, int] = {n: m.output_size for n, m in modules.items()}

    def forward(self, batch: MultimodalBatch) -> list[Tensor]:
        """One (B, output size) for each modality."""
        if self.padded:
            batch = batch.as_padded()
        vectors = []
        for name, module in self.of.items():
            x, lengths = batch.features[name], batch.lengths[name]
            vectors.append(module(x, lengths))
        return vectors


def _subnetwork(config: SubNetworkConfig, size: int, output: int, recurrent: bool) -> nn.Module:
    dropout = config.encoder_dropout
    if config.encoder == "conv_bilstm":
        return SequenceSubNetwork(
            size,
            config.frontend_size,
            output,
            kernel_size=config.frontend_kernel,
            stride=config.frontend_stride,
            dropout=dropout,
        )
    if recurrent:
        return RecurrentSubNetwork(
            size, config.recurrent_hidden_size, config.recurrent_output_size, dropout=dropout
        )
    return MeanSubNetwork(size, output, dropout=dropout)
