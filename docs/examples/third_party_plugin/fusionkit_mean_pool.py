"""A whole plugin: ``pip install`` it, then ``fusionkit train mean_pool`` works."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from fusionkit import DataSpec, Method, MethodConfig, MultimodalBatch, hookimpl
from fusionkit.nn import pool


class MeanPoolConfig(MethodConfig):
    """Size of the hidden layer."""

    hidden_size: int = Field(32, ge=1, description="units of the hidden layer")


class MeanPool(nn.Module):
    """Mean over time of every modality, side by side, through one hidden layer."""

    def __init__(self, config: MeanPoolConfig, spec: DataSpec) -> None:
        super().__init__()
        self.head = nn.Sequential(
            nn.Linear(sum(spec.modalities.values()), config.hidden_size),
            nn.ReLU(),
            nn.Linear(config.hidden_size, spec.num_outputs),
        )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """(B, num_outputs)."""
        means = [pool(x, batch.lengths[name], "mean") for name, x in batch.features.items()]
        return self.head(torch.cat(means, dim=-1))


@hookimpl
def fusionkit_register_methods(register):
    """Add ``mean_pool``."""
    register(
        Method(
            name="mean_pool",
            summary="mean over time of every modality, concatenated",
            config=MeanPoolConfig,
            build=MeanPool,
            min_modalities=1,
        )
    )
