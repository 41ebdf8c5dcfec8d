"""One stack of recurrent or convolutional stages a modality, which exchange between the stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fusionkit.nn.convolution import ConvFrontend
from fusionkit.nn.dropout import Dropout
from fusionkit.nn.encoder import AttentionPooling
from fusionkit.nn.pooling import pool
from fusionkit.nn.recurrent import LengthAwareRNN, last_step, run_together

Stage = Literal["lstm", "gru", "conv"]
StagePooling = Literal["last", "mean", "max", "mean_max", "attention_max"]


class StagedFusion(nn.Module):
    """Intermediate fusion: a block sees all modalities after every stage but the last.

    Args:
        input_sizes: modality -> features D_m.
        hidden_sizes: modality -> units of a stage (of each direction).
        fusion: (channels of every modality) -> block that is called with a list of (B, C_m, T_m)
            and a list of lengths, and returns the list of the same shapes, such as
            `SplitAttention` or `SqueezeExcitationFusion`; None: the stacks do not exchange.
        num_stages: stages of every modality, at least 1.
        stage: ``lstm``, ``gru``, or ``conv`` (convolution over time, layer norm, GELU).
        bidirectional: recurrent stages run both ways, side by side.
        kernel_size: odd width of the convolution of ``conv`` stages, in frames.
        dropout: on the outputs of every stage.
        pooling: of the last stage over the valid steps: the last one, their mean or largest values,
            both, or attention beside the largest values.
        frontend_size: channels of a `ConvFrontend` before each stack, 0 for none.
        frontend_kernel: odd width of it, in frames. frontend_strides: modality -> frames a step.
        aligned: lengths and padded lengths are the same for all modalities.
    """

    def __init__(
        self,
        input_sizes: Mapping[str, int],
        hidden_sizes: Mapping[str, int],
        fusion: Callable[[Sequence[int]], nn.Module] | None,
        *,
        num_stages: int = 2,
        stage: Stage = "lstm",
        bidirectional: bool = False,
        kernel_size: int = 5,
        dropout: float = 0.0,
        pooling: StagePooling = "last",
        frontend_size: int = 0,
        frontend_kernel: int = 5,
        frontend_strides: Mapping[str, int] | None = None,
        aligned: bool = False,
    ) -> None:
        super().__init__()
        self.bidirectional = bidirectional and stage != "conv"
        self.pooling, self.num_stages = pooling, num_stages
        strides = dict(frontend_strides or dict.fromkeys(input_sizes, 1))
        self.frontends = nn.ModuleDict()
        if frontend_size:
            for name, size in input_sizes.items():
                self.frontends[name] = ConvFrontend(
                    size, frontend_size, kernel_size=frontend_kernel, stride=strides[name]
                )
            input_sizes = dict.fromkeys(input_sizes, frontend_size)
            aligned = aligned and len(set(strides.values())) == 1
        self.run_together = aligned and stage != "conv"
        directions = 2 if self.bidirectional else 1
        sizes = {name: directions * hidden_sizes[name] for name in input_sizes}

        def build(inputs: int, hidden: int) -> nn.Module:
            if stage == "conv":
                return ConvFrontend(inputs, hidden, kernel_size=kernel_size, stride=1)
            return LengthAwareRNN(inputs, hidden, cell=stage, bidirectional=bidirectional)

        self.stages = nn.ModuleDict()
        for name, size in input_sizes.items():
            inputs = [size] + [sizes[name]] * (num_stages - 1)
            self.stages[name] = nn.ModuleList(build(n, hidden_sizes[name]) for n in inputs)
        exchanges = num_stages - 1 if fusion is not None else 0
        self.fusions = nn.ModuleList(
            fusion(list(sizes.values())) for _ in range(exchanges) if fusion is not None
        )
        self.dropout = Dropout(dropout)
        self.attention = nn.ModuleDict()
        if pooling == "attention_max":
            self.attention.update({name: AttentionPooling(size) for name, size in sizes.items()})
        self.output_size = sum(sizes.values()) * (2 if pooling.endswith("_max") else 1)

    def forward(self, features: Mapping[str, Tensor], lengths: Mapping[str, Tensor]) -> Tensor:
        """Modality -> (B, T_m, D_m) and lengths (B,) to (B, output_size), modality by modality."""
        hidden = {name: features[name] for name in self.stages}
        lengths = {name: lengths[name] for name in self.stages}
        for name, frontend in self.frontends.items():
            hidden[name], lengths[name] = frontend(hidden[name], lengths[name])
        for index in range(self.num_stages):
            hidden = self._stage(index, hidden, lengths)
            hidden = {name: self.dropout(h) for name, h in hidden.items()}
            if index < len(self.fusions):
                fused = self.fusions[index](
                    [h.transpose(1, 2) for h in hidden.values()], list(lengths.values())
                )
                hidden = {name: x.transpose(1, 2) for name, x in zip(hidden, fused)}
        return torch.cat([self._pool(name, h, lengths[name]) for name, h in hidden.items()], dim=-1)

    def _stage(
        self, index: int, inputs: Mapping[str, Tensor], lengths: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        stacks: dict[str, Any] = dict(self.stages.items())
        stages = {name: stack[index] for name, stack in stacks.items()}
        if self.run_together:
            shared = next(iter(lengths.values()))
            outputs = run_together(list(stages.values()), list(inputs.values()), shared)
            return dict(zip(inputs, outputs))
        return {name: stages[name](x, lengths[name])[0] for name, x in inputs.items()}

    def _pool(self, name: str, hidden: Tensor, lengths: Tensor) -> Tensor:
        if self.pooling == "last":
            return last_step(hidden, lengths, bidirectional=self.bidirectional)
        if self.pooling == "attention_max":
            attended = self.attention[name](hidden, lengths)
            return torch.cat([attended, pool(hidden, lengths, "max")], dim=-1)
        return pool(hidden, lengths, self.pooling)
