"""Options of MSAF; the defaults are the CMU-MOSEI network's, with the code's defects corrected."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fusionkit import MethodConfig


class MSAFConfig(MethodConfig):
    """Sizes of the stacks, split attention between their stages, treatment of padding."""

    hidden_size: int | dict[str, int] = Field(
        64, description="units of a recurrent layer, for every modality or {modality: units}"
    )
    encoder: Literal["lstm", "gru"] = Field("lstm", description="cell of the recurrent layers")
    num_layers: int = Field(
        2, ge=2, description="recurrent layers of a modality; split attention between any two"
    )
    bidirectional: bool = Field(False, description="layers run both ways, side by side (ours)")
    fusion: bool = Field(True, description="split attention between the layers; false: none (ours)")
    block_size: int = Field(16, ge=1, description="channels C of a block")
    reduction: int = Field(2, ge=1, description="the joint descriptor is squeezed to C / reduction")
    attention_floor: float = Field(
        0.0, ge=0, le=1, description="lambda: the least gain of a block; 1 switches attention off"
    )
    block_dropout: float = Field(
        0.2, ge=0, lt=1, description="probability that a block is dropped in training"
    )
    block_dropout_mode: Literal["corrected", "released"] = Field(
        "corrected",
        description="applied once, or twice as in the released code: kept blocks then grow by "
        "1 / (1 - p)**2 in training",
    )
    num_segments: int = Field(
        5, ge=1, description="parts q of the time axis, each with an attention of its own"
    )
    lengths: Literal["true", "padded"] = Field(
        "true",
        description="sequences have their own lengths, or all the padded one (released code)",
    )
    pooling: Literal["last", "mean", "max", "mean_max", "attention_max"] = Field(
        "last", description="of the last layer over time (released code: last; others are ours)"
    )
    frontend_size: int = Field(
        0, ge=0, description="channels of a convolution before each stack, 0 for none (ours)"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of that convolution, in frames")
    frontend_stride: int | dict[str, int] = Field(
        2, description="frames a step after it, for every modality or {modality: stride}"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="on the outputs of every layer (ours)")
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer (ours)")

    @model_validator(mode="after")
    def _check(self) -> MSAFConfig:
        if self.frontend_kernel % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        if self.reduction > self.block_size:
            raise ValueError(f"reduction must be at most block_size, {self.block_size}")
        for name in ("hidden_size", "frontend_stride"):
            value = getattr(self, name)
            if any(v < 1 for v in (value.values() if isinstance(value, dict) else [value])):
                raise ValueError(f"{name} must be at least 1")
        return self
