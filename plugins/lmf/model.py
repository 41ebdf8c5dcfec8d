"""LMF: one vector of each modality, fused at low rank straight into the outputs."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
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
        self.encoders = SubNetworks(config, spec)
        sizes = list(self.encoders.output_sizes.values())
        self.fusion = LowRankFusion(sizes, config.rank, spec.num_outputs)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        output: Tensor = self.fusion(self.encoders(batch))
        return output.softmax(dim=-1) if self.softmax else output
