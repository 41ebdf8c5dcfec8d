"""MulT: every modality reads every other one through transformers; a memory each; a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.nn import ConvFrontend, Dropout, check_modalities, per_modality, pool, pooled_size
from fusionkit.nn.crossmodal_transformer import Reading, TransformerEncoder, run_transformers
from fusionkit.nn.top_down import TopDownFeedback
from fusionkit.ops.lengths import zero_padding
from fusionkit_plugins.mult.config import MulTConfig
from fusionkit_plugins.mult.lookahead import lookahead_mask
from fusionkit_plugins.mult.projection import ResidualHead, TemporalProjection


class MulT(nn.Module):
    """The multimodal transformer for any number of modalities from two on, aligned or not.

    Each target modality reads each other modality's low-level sequence through a cross-modal
    transformer, what it read goes side by side through a memory transformer, and the memories'
    last valid steps go side by side into the head.

    Args:
        config: sizes and options. spec: modalities, task and outputs.

    Raises:
        ConfigError: an option names a modality that the data lack.
    """

    def __init__(self, config: MulTConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config, self.aligned = config, spec.aligned
        self.modalities = tuple(spec.modalities)
        self.targets = _targets(config, self.modalities)
        sizes = dict(spec.modalities)
        self.frontends = nn.ModuleDict()
        if config.frontend_size:
            strides = per_modality("frontend_stride", config.frontend_stride, self.modalities, 2)
            for name, stride in strides.items():
                self.frontends[name] = ConvFrontend(
                    sizes[name],
                    config.frontend_size,
                    kernel_size=config.frontend_kernel,
                    stride=stride,
                )
                sizes[name] = config.frontend_size
            self.aligned = spec.aligned and len(set(strides.values())) == 1
        self.input_dropout = nn.ModuleDict(
            {
                name: Dropout(p)
                for name, p in _dropouts(
                    "input_dropout", config.input_dropout, self.modalities, 0.25
                ).items()
            }
        )
        kernels = per_modality("kernel_size", config.kernel_size, self.modalities, 1)
        # As in the released code, what has the width already is not projected.
        self.projections = nn.ModuleDict(
            {
                name: TemporalProjection(size, config.width, kernels[name])
                for name, size in sizes.items()
                if size != config.width or kernels[name] > 1
            }
        )
        self.crossmodal, self.memory = _transformers(config, self.modalities, self.targets)
        memory_size = config.width * (len(sizes) - 1)
        self.feedback = None
        if config.feedback is not None:
            self.feedback = TopDownFeedback(
                sizes,
                memory_size,
                kind=config.feedback,
                dropout=config.feedback_dropout,
                mask_dropout=config.mask_dropout,
                aligned=self.aligned,
            )
        how = config.pooling
        pooled = memory_size if how == "last" else pooled_size(memory_size, how)
        self.head = ResidualHead(
            pooled * len(self.targets), spec.num_outputs, config.output_dropout
        )

    def forward(self, batch: MultimodalBatch) -> Tensor:
        """Outputs (B, num_outputs): logits, or values of a regression."""
        output: Tensor = self.head(self.summary(batch))
        return output

    def summary(self, batch: MultimodalBatch) -> Tensor:
        """What the head reads: the pooled memories of all targets side by side, (B, features)."""
        inputs, lengths = self._inputs(batch)
        if self.feedback is None:
            memories: Mapping[str, Tensor] = self._encode(inputs, lengths)
        else:
            memories = self.feedback(lambda x: self._encode(x, lengths), inputs, lengths)
        return torch.cat([self._pool(memories[t], lengths[t]) for t in self.targets], dim=-1)

    def explain(self, batch: MultimodalBatch) -> dict[str, Tensor]:
        """The learnt masks by ``mask of MODALITY``: (B, T, D) in [0, 1], zero on padding.

        Raises:
            ConfigError: the model has no masks.
        """
        if self.feedback is None:
            raise ConfigError("this MulT has no masks to show; train one with --set feedback=lstm")
        inputs, lengths = self._inputs(batch)
        masks = self.feedback.masks(self._encode(inputs, lengths), lengths)
        return {f"mask of {name}": mask for name, mask in masks.items()}

    def _inputs(self, batch: MultimodalBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        if self.config.lengths == "padded":
            batch = batch.as_padded()
        features = {name: batch.features[name] for name in self.modalities}
        lengths = {name: batch.lengths[name] for name in self.modalities}
        for name, x in features.items():
            if name in self.frontends:
                features[name], lengths[name] = self.frontends[name](x, lengths[name])
            elif self.config.lengths == "true":
                features[name] = zero_padding(x, lengths[name])
        return features, lengths

    def _encode(
        self, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Inputs (B, T_m, D_m), zero on padding, to the memories (B, T_t, width * sources)."""
        low = {name: self.input_dropout[name](x) for name, x in inputs.items()}
        low.update({name: project(low[name]) for name, project in self.projections.items()})
        crossmodal: Any = self.crossmodal
        pairs = [(target, source) for target in self.targets for source in crossmodal[target]]
        steps = {name: x.shape[1] for name, x in low.items()}
        read = run_transformers(
            [crossmodal[target][source] for target, source in pairs],
            [
                Reading(
                    low[target],
                    lengths[target],
                    low[source],
                    lengths[source],
                    bias=self._mask(lengths[target], lengths[source], steps[target], steps[source]),
                )
                for target, source in pairs
            ],
        )
        joined = {
            target: torch.cat([x for x, (t, _) in zip(read, pairs) if t == target], dim=-1)
            for target in self.targets
        }
        encoders: Any = [self.memory[target] for target in self.targets]
        memories = run_transformers(
            encoders,
            [
                Reading(x, lengths[t], bias=self._mask(lengths[t], lengths[t], steps[t], steps[t]))
                for t, x in joined.items()
            ],
        )
        return dict(zip(self.targets, memories))

    def _mask(
        self, lengths: Tensor, source_lengths: Tensor, steps: int, source_steps: int
    ) -> Tensor | None:
        if not self.config.attn_mask:
            return None
        if self.config.lengths == "padded":
            lengths, source_lengths = lengths[:1], source_lengths[:1]  # all samples alike
        return lookahead_mask(lengths, source_lengths, steps, source_steps)

    def _pool(self, memory: Tensor, lengths: Tensor) -> Tensor:
        if self.config.pooling != "last":
            return pool(memory, lengths, self.config.pooling)
        index = (lengths - 1).clamp(min=0)[:, None, None].expand(-1, 1, memory.shape[-1])
        last = memory.gather(1, index).squeeze(1)
        return torch.where((lengths > 0)[:, None], last, last.new_zeros(()))


def _transformers(
    config: MulTConfig, modalities: tuple[str, ...], targets: tuple[str, ...]
) -> tuple[nn.ModuleDict, nn.ModuleDict]:
    """Target -> source -> cross-modal transformer, and target -> memory transformer."""
    by_source = _dropouts("attention_dropout", config.attention_dropout, modalities, 0.1)

    def encoder(sources: int, layers: int, attention_dropout: float) -> TransformerEncoder:
        return TransformerEncoder(
            config.width * sources,
            config.num_heads,
            layers,
            attention_dropout=attention_dropout,
            relu_dropout=config.relu_dropout,
            residual_dropout=config.residual_dropout,
            embed_dropout=config.embed_dropout,
            positions=config.positions,
        )

    memory_layers = config.memory_layers or max(config.num_layers, 3)
    crossmodal, memory = nn.ModuleDict(), nn.ModuleDict()
    for target in targets:
        sources = [name for name in modalities if name != target]
        crossmodal[target] = nn.ModuleDict(
            {source: encoder(1, config.num_layers, by_source[source]) for source in sources}
        )
        memory[target] = encoder(len(sources), memory_layers, config.memory_attention_dropout)
    return crossmodal, memory


def _targets(config: MulTConfig, modalities: tuple[str, ...]) -> tuple[str, ...]:
    wanted = config.targets or modalities
    check_modalities("targets", wanted, modalities)
    return tuple(name for name in modalities if name in wanted)


def _dropouts(
    field: str,
    value: float | dict[str, float] | None,
    modalities: tuple[str, ...],
    first: float,
) -> dict[str, float]:
    if value is None:
        value = {modalities[0]: first}
    return per_modality(field, value, modalities, 0.0)
