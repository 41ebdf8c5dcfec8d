"""TFN: one vector of each modality, their outer product, three layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import Dropout
from fusionkit.nn.tensor_fusion import tensor_fusion, tensor_fusion_size
from fusionkit_plugins.tfn.config import TFNConfig
from fusionkit_plugins.tfn.subnetworks import SubNetworks

MAX_TENSOR_SIZE = 1_000_000
"""Largest outer product of a sample, in numbers: 4 MB, and 4 MB a unit of the layer after it."""


class TFN(nn.Module):
    """Tensor fusion network for any number of modalities from two on.

    Args:
        config: sizes and options. spec: modalities, task and outputs.

    Raises:
        ConfigError: the outer product is larger than `MAX_TENSOR_SIZE`, the options name a
            modality that the data lack, or ``output_range`` is given for another task.
    """

    def __init__(self, config: TFNConfig, spec: DataSpec) -> None:
        super().__init__()
        if config.output_range is not None and spec.task != "regression":
            raise ConfigError(f"output_range is for regression, not for {spec.task}: set it null")
        self.config = config
        self.encoders = SubNetworks(config, spec)
        size = _tensor_size(self.encoders.output_sizes)
        self.dropout = Dropout(config.fusion_dropout)
        self.post_fusion_1 = nn.Linear(size, config.post_fusion_size)
        self.post_fusion_2 = nn.Linear(config.post_fusion_size, config.post_fusion_size)
        self.post_fusion_3 = nn.Linear(config.post_fusion_size, spec.num_outputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        hidden = self.dropout(tensor_fusion(self.encoders(batch)))
        hidden = torch.relu(self.post_fusion_1(hidden))
        hidden = torch.relu(self.post_fusion_2(hidden))
        output: Tensor = self.post_fusion_3(hidden)
        if self.config.output_range is None:
            return output
        lowest, highest = self.config.output_range
        return torch.sigmoid(output) * (highest - lowest) + lowest


def _tensor_size(sizes: dict[str, int]) -> int:
    total = tensor_fusion_size(sizes.values())
    if total > MAX_TENSOR_SIZE:
        product = " x ".join(f"({size} {name} + 1)" for name, size in sizes.items())
        raise ConfigError(
            f"hidden_size: the outer product {product} has {total} numbers a sample, at most "
            f"{MAX_TENSOR_SIZE} are allowed; lower hidden_size and recurrent_output_size, use "
            "fewer modalities, or take lmf, which never builds the product"
        )
    return total
