"""Options of LMF; its sub-networks are TFN's."""

from __future__ import annotations

from pydantic import Field

from fusionkit_plugins.tfn.config import SubNetworkConfig


class LMFConfig(SubNetworkConfig):
    """Sub-networks and rank."""

    rank: int = Field(4, ge=1, description="of the fusion weights (searched: 1, 4, 8, 16)")
    factor_learning_rate: float = Field(
        1.0, gt=0, description="of the fusion's factors, relative to train.learning_rate"
    )
    softmax: bool = Field(
        False,
        description="softmax over the outputs (released option that no official script turns on)",
    )
