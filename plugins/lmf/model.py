"""LMF: one vector of each modality, fused at low rank straight into the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch, ParameterGroup
from fusionkit.nn.low_rank_fusion import LowRankFusion
from fusionkit_plugins.lmf.config import LMFConfig
from fusionkit_plugins.tfn.subnetworks import SubNetworks


class LMF(nn.Module):
    """Low-rank multimodal fusion for any number of modalities from two on.

    Args:
        config: sizes and options. spec: modalities, task and outputs.

    Raises:
        ConfigError: the options name a modality that the data lack, or ask for a softmax over one
            output.
    """

    def __init__(self, config: LMFConfig, spec: DataSpec) -> None:
        super().__init__()
        if config.softmax and spec.num_outputs == 1:
            raise ConfigError("softmax: over one output it is always 1; set softmax=false")
        self.softmax = config.softmax
        self.factor_learning_rate = config.factor_learning_rate
        self.encoders = SubNetworks(config, spec)
        sizes = list(self.encoders.output_sizes.values())
        self.fusion = LowRankFusion(sizes, config.rank, spec.num_outputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        output: Tensor = self.fusion(self.encoders(batch))
        return output.softmax(dim=-1) if self.softmax else output


def parameter_groups(model: nn.Module) -> Sequence[ParameterGroup]:
    """The factors of an `LMF`, where they have a learning rate of their own.

    As in the released code, the weights over the rank and the bias are not among them.
    """
    network = cast(LMF, model)
    if network.factor_learning_rate == 1:
        return ()
    return (ParameterGroup("factors", network.fusion.factors, network.factor_learning_rate),)
