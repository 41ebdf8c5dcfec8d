"""Squeeze-and-excitation between modalities (MMTM): channels gated by what all modalities hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.errors import ConfigError
from fusionkit.nn.split_attention import check_features
from fusionkit.ops.split_attention import segment_mean, segment_scale


class SqueezeExcitationFusion(nn.Module):
    """The MMTM module (Vaezi Joze et al., CVPR 2020), for two or more modalities.

    The means of all channels of all modalities, side by side, go through one linear layer and ReLU
    to ``int(2 * channels / ratio)`` features; from them one linear layer a modality gives the
    logits of its gates: ``x_m * gate_scale * sigmoid(W_m z)``. More than two modalities are ours;
    with two it is the released module.

    Args:
        sizes: channels of every modality, in the order of the features.
        ratio: how much the squeeze compresses.
        gate_scale: 1 as in the released code; with 2 a gate starts near 1 (the paper is said to
            have 2, which is unconfirmed).

    Raises:
        ConfigError: an argument is out of range, or ``ratio`` leaves no feature.
    """

    def __init__(self, sizes: Sequence[int], *, ratio: float = 4, gate_scale: float = 1.0) -> None:
        super().__init__()
        if not sizes or min(sizes) < 1:
            raise ConfigError(f"sizes must be the channels of each modality, got {list(sizes)}")
        if ratio <= 0 or gate_scale <= 0:
            raise ConfigError(f"ratio and gate_scale must be above 0, got {ratio} and {gate_scale}")
        self.sizes, self.gate_scale = tuple(sizes), gate_scale
        self.squeezed_size = int(2 * sum(sizes) / ratio)
        if self.squeezed_size < 1:
            raise ConfigError(
                f"ratio {ratio} leaves no feature of {sum(sizes)} channels; at most "
                f"{2 * sum(sizes)}"
            )
        self.squeeze = nn.Linear(sum(sizes), self.squeezed_size)
        self.excitations = nn.ModuleList(nn.Linear(self.squeezed_size, size) for size in sizes)

    def forward(
        self, features: Sequence[Tensor], lengths: Sequence[Tensor | None] | None = None
    ) -> list[Tensor]:
        """Gate the channels of every modality.

        Args:
            features: one tensor a modality, (B, C_m, ...) with any or no axes after the channels.
            lengths: for every modality (B,) valid steps of axis 2, or None where all count. Only
                valid steps are averaged.

        Returns:
            Tensors of the same shapes; zero on padding.

        Raises:
            DataError: number or shapes of the features do not fit.
        """
        lengths = check_features(self.sizes, features, lengths)
        means = [segment_mean(x, lengths=n).squeeze(2) for x, n in zip(features, lengths)]
        squeezed = F.relu(self.squeeze(torch.cat(means, dim=1)))
        gated = []
        for x, excitation, n in zip(features, self.excitations, lengths):
            gates = self.gate_scale * excitation(squeezed).sigmoid()
            gated.append(segment_scale(x, gates.unsqueeze(2).to(x.dtype), lengths=n))
        return gated
