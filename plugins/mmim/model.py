"""MMIM: vectors of all modalities, their fusion, and the bounds that training maximises."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, cast

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import Dropout, per_modality
from fusionkit_plugins.mmim.bounds import BarberAgakovTerms, ContrastivePrediction
from fusionkit_plugins.mmim.config import MMIMConfig
from fusionkit_plugins.mmim.encoders import LastState, Summary, TimeSummary
from fusionkit_plugins.mmim.entropy import EntropyMemory, Groups


class FusionHead(nn.Module):
    """Dropout, Linear, Tanh, Linear, Tanh, and a linear layer for the outputs.

    Args:
        input_size, hidden_size, num_outputs: features in, of the fused vector, and out.
        dropout: on the input.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_outputs: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.first = nn.Linear(input_size, hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, num_outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, input_size) to the fused vector (B, hidden_size) and the outputs (B, num_outputs)."""
        fused = self.second(self.first(self.dropout(x)).tanh()).tanh()
        return fused, self.output(fused)


class MMIM(nn.Module):
    """One vector a modality, side by side through two layers.

    ``bounds`` holds the Barber-Agakov terms of every pair, from the main modality to each other;
    with ``all_pairs`` also among the others, where the later predicts the earlier. They and
    ``contrast`` take part in training only.

    Args:
        config: sizes and options. spec: modalities, task and outputs.

    Raises:
        ConfigError: ``main`` is not in the data, or the released entropy without a regression.
    """

    def __init__(self, config: MMIMConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.spec = config, spec
        self.main = config.main or next(iter(spec.modalities))
        if self.main not in spec.modalities:
            have = ", ".join(spec.modalities)
            raise ConfigError(f"main: {self.main!r} is not in the data; they have {have}")
        if config.entropy == "released" and spec.task != "regression":
            raise ConfigError(
                f"entropy: the released code knows no {spec.task}; take corrected or off"
            )
        self.encoders = _encoders(config, spec, self.main)
        sizes = {name: encoder.output_size for name, encoder in self.encoders.items()}
        others = [name for name in spec.modalities if name != self.main]
        self.pairs = [(self.main, other) for other in others]
        if config.all_pairs:
            self.pairs += [(later, earlier) for earlier, later in combinations(others, 2)]
        self.bounds = nn.ModuleDict(
            {pair_name(x, y): BarberAgakovTerms(sizes[x], sizes[y], config) for x, y in self.pairs}
        )
        self.contrast = nn.ModuleDict(
            {
                name: ContrastivePrediction(
                    size,
                    config.hidden_size,
                    layers=config.cpc_layers,
                    activation=config.cpc_activation,
                    one_activation=config.cpc_one_activation,
                )
                for name, size in sizes.items()
            }
        )
        self.head = FusionHead(
            sum(sizes.values()), config.hidden_size, spec.num_outputs, config.dropout
        )
        # As the released training script does.
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_normal_(parameter)
        self.memory = EntropyMemory(config.memory_batches)

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        return self.fuse(self.encode(batch))[1]

    def encode(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """The vector of every modality, (B, its encoder's output size)."""
        return {
            name: encoder(batch.features[name], batch.lengths[name])
            for name, encoder in self.encoders.items()
        }

    def fuse(self, vectors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The fused vector (B, hidden_size) and the outputs (B, num_outputs)."""
        fused: tuple[Tensor, Tensor] = self.head(torch.cat(list(vectors.values()), dim=-1))
        return fused

    def log_likelihood(self, vectors: Mapping[str, Tensor]) -> Tensor:
        """Sum over the pairs of the mean log-likelihood, a scalar."""
        return torch.stack(
            [
                self._terms(pair).log_likelihood(vectors[pair[0]], vectors[pair[1]])
                for pair in self.pairs
            ]
        ).sum()

    def entropy_rows(self, vectors: Mapping[str, Tensor], groups: Groups) -> dict[str, Groups]:
        """The projected vectors of each pair's predicted modality, split into groups."""
        rows = {}
        for pair in self.pairs:
            projected = self._terms(pair).project(vectors[pair[1]])
            rows[pair_name(*pair)] = [projected[group] for group in groups]
        return rows

    def contrastive_loss(self, vectors: Mapping[str, Tensor], fused: Tensor) -> Tensor:
        """Sum over the modalities of their InfoNCE loss with the fused vector, a scalar."""
        return torch.stack(
            [contrast(vectors[name], fused) for name, contrast in self.contrast.items()]
        ).sum()

    def _terms(self, pair: tuple[str, str]) -> BarberAgakovTerms:
        return cast(BarberAgakovTerms, self.bounds[pair_name(*pair)])


def pair_name(predictor: str, predicted: str) -> str:
    """Key of a pair in ``bounds``.

    >>> pair_name("text", "audio")
    'text_to_audio'
    """
    return f"{predictor}_to_{predicted}"


def _encoders(config: MMIMConfig, spec: DataSpec, main: str) -> Any:
    names = list(spec.modalities)
    hidden = per_modality("encoder_hidden", config.encoder_hidden, names)
    sizes = per_modality("encoder_size", config.encoder_size, names)
    strides = per_modality("frontend_stride", config.frontend_stride, names)
    encoders: dict[str, nn.Module] = {}
    for name, features in spec.modalities.items():
        if name == main and config.main_encoder != "same":
            encoders[name] = TimeSummary(features, config.main_encoder)
        elif config.encoder == "conv_bilstm":
            encoders[name] = Summary(
                features,
                config.frontend_size,
                sizes[name],
                kernel_size=config.frontend_kernel,
                stride=strides[name],
                dropout=config.encoder_dropout,
            )
        else:
            encoders[name] = LastState(
                features,
                hidden[name],
                sizes[name],
                num_layers=config.encoder_layers,
                bidirectional=config.bidirectional,
                dropout=config.encoder_dropout,
                first_layer=config.first_layer_state,
            )
    return nn.ModuleDict(encoders)
