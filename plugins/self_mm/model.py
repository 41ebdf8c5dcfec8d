"""Self-MM: one vector of each modality, a head on each and one on all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch, ParameterGroup
from fusionkit.nn import Dropout, check_modalities, per_modality, pool
from fusionkit.nn.tensor_fusion import RecurrentSubNetwork, SequenceSubNetwork
from fusionkit_plugins.self_mm.config import SelfMMConfig
from fusionkit_plugins.self_mm.labels import FUSION, UnimodalLabels

OTHER = "other"
"""In ``learning_rates`` and ``weight_decays`` beside the modalities: all that has none there."""


class Precomputed(nn.Module):
    """The vector of a modality that comes encoded: its mean over time, or its first step.

    Args:
        size: features. how: which of the two.
    """

    def __init__(self, size: int, how: Literal["mean", "first"]) -> None:
        super().__init__()
        self.output_size, self.how = size, how

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """(B, T, size) and lengths (B,) in [0, T] to (B, size)."""
        if self.how == "first":
            x, lengths = x[:, :1], lengths.clamp(max=1)
        return pool(x, lengths, "mean")


class Head(nn.Module):
    """Dropout, three linear layers with a ReLU between.

    Args:
        input_size: of the vector. size: of both layers. output_size: of the prediction.
        dropout: on the vector.
    """

    def __init__(self, input_size: int, size: int, output_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.linear_1 = nn.Linear(input_size, size)
        self.linear_2 = nn.Linear(size, size)
        self.linear_3 = nn.Linear(size, output_size)

    def forward(self, vector: Tensor) -> tuple[Tensor, Tensor]:
        """(B, input_size) to the prediction (B, output_size) and the features (B, size).

        The features are those after the first layer, from which labels are made.
        """
        features = torch.relu(self.linear_1(self.dropout(vector)))
        return self.linear_3(torch.relu(self.linear_2(features))), features


class SelfMM(nn.Module):
    """Self-supervised multi-task network for any number of modalities from two on.

    Args:
        config: sizes and options. spec: modalities and outputs.

    Raises:
        ConfigError: the options name a modality that the data lack, or give a rate to an encoder
            that has no parameters.
    """

    def __init__(self, config: SelfMMConfig, spec: DataSpec) -> None:
        super().__init__()
        self.learning_rates, self.weight_decays = config.learning_rates, config.weight_decays
        main = config.main or next(iter(spec.modalities))
        if main not in spec.modalities:
            have = ", ".join(spec.modalities)
            raise ConfigError(f"main: no modality {main!r} in the data ({have})")
        recurrent = per_modality("recurrent_size", config.recurrent_size, spec.modalities, 16)
        vectors = per_modality("vector_size", config.vector_size, spec.modalities, 16)
        heads = per_modality("head_size", config.head_size, spec.modalities, 32)
        dropout = config.encoder_dropout
        self.encoders, self.heads = nn.ModuleDict(), nn.ModuleDict()
        total = 0
        for name, size in spec.modalities.items():
            encoder: Precomputed | RecurrentSubNetwork | SequenceSubNetwork
            if config.encoder == "conv_bilstm":
                encoder = SequenceSubNetwork(
                    size,
                    config.frontend_size,
                    vectors[name],
                    kernel_size=config.frontend_kernel,
                    stride=config.frontend_stride,
                    dropout=dropout,
                )
            elif name == main:
                encoder = Precomputed(size, config.main_vector)
            else:
                encoder = RecurrentSubNetwork(size, recurrent[name], vectors[name], dropout=dropout)
            self.encoders[name] = encoder
            self.heads[name] = Head(
                encoder.output_size, heads[name], spec.num_outputs, config.head_dropout
            )
            total += encoder.output_size
        _check_groups("learning_rates", config.learning_rates, self.encoders)
        _check_groups("weight_decays", config.weight_decays, self.encoders)
        self.fusion_head = Head(total, config.fusion_size, spec.num_outputs, config.head_dropout)
        self.memory = UnimodalLabels(
            {FUSION: config.fusion_size, **heads},
            limit=config.label_range,
            neutral=config.neutral,
            exclude_neutral=config.exclude_neutral,
            released=config.labels == "released",
        )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Predictions (B, num_outputs) of the fusion head."""
        prediction: Tensor = self.fusion_head(torch.cat(self._vectors(batch), dim=-1))[0]
        return prediction

    def heads_of(self, batch: MultimodalBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Predictions (B, num_outputs) and features of `FUSION` and of each modality."""
        vectors = self._vectors(batch)
        results = {FUSION: self.fusion_head(torch.cat(vectors, dim=-1))}
        for (name, head), vector in zip(self.heads.items(), vectors):
            results[name] = head(vector)
        return {n: r[0] for n, r in results.items()}, {n: r[1] for n, r in results.items()}

    def _vectors(self, batch: MultimodalBatch) -> list[Tensor]:
        return [e(batch.features[name], batch.lengths[name]) for name, e in self.encoders.items()]


def _check_groups(field: str, values: Mapping[str, float], encoders: nn.ModuleDict) -> None:
    if OTHER in values and OTHER in encoders:
        raise ConfigError(
            f"{field}: {OTHER!r} is all that no modality names, and a modality is called so too; "
            "rename it in the data"
        )
    named = [name for name in values if name != OTHER]
    check_modalities(field, named, list(encoders))
    for name in named:
        if next(encoders[name].parameters(), None) is None:
            raise ConfigError(
                f"{field}: {name!r} comes encoded, there is nothing to train; leave it out"
            )


def parameter_groups(model: nn.Module) -> Sequence[ParameterGroup]:
    """The encoders that ``learning_rates`` or ``weight_decays`` name; `OTHER` is all the rest."""
    network = cast(SelfMM, model)
    rates, decays = network.learning_rates, network.weight_decays
    named = dict.fromkeys([*rates, *decays])
    parts = {name: list(network.encoders[name].parameters()) for name in named if name != OTHER}
    if OTHER in named:
        taken = {p for part in parts.values() for p in part}
        parts[OTHER] = [p for p in network.parameters() if p not in taken]
    return [ParameterGroup(n, part, rates.get(n, 1.0), decays.get(n)) for n, part in parts.items()]
