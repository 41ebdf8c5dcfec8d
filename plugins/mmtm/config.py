"""Options of MMTM on sequences; what is not the module itself is ours."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fusionkit import MethodConfig


class MMTMConfig(MethodConfig):
    """Sizes of the stacks, squeeze-and-excitation between their stages, treatment of padding."""

    hidden_size: int | dict[str, int] = Field(
        64, description="units or channels of a stage, for every modality or {modality: units}"
    )
    encoder: Literal["lstm", "gru", "conv"] = Field(
        "lstm", description="what a stage is: recurrent, or a convolution over time"
    )
    num_layers: int = Field(
        2, ge=2, description="stages of a modality; a transfer module between any two"
    )
    bidirectional: bool = Field(False, description="recurrent stages run both ways, side by side")
    fusion: bool = Field(True, description="transfer modules between the stages; false: none")
    ratio: float = Field(
        4.0, gt=0, description="the squeeze has 2 * channels / ratio features (released code: 4)"
    )
    gate_scale: float = Field(
        1.0, gt=0, description="gates are gate_scale * sigmoid: 1 in the released code, 2 said of "
        "the paper (unconfirmed)",
    )  # fmt: skip
    lengths: Literal["true", "padded"] = Field(
        "true", description="sequences have their own lengths, or all the padded one"
    )
    pooling: Literal["last", "mean", "max", "mean_max", "attention_max"] = Field(
        "mean", description="of the last stage over time"
    )
    kernel_size: int = Field(5, ge=1, description="odd width of conv stages, in frames")
    frontend_size: int = Field(
        0, ge=0, description="channels of a convolution before each stack, 0 for none"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of that convolution, in frames")
    frontend_stride: int | dict[str, int] = Field(
        2, description="frames a step after it, for every modality or {modality: stride}"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="on the outputs of every stage")
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    @model_validator(mode="after")
    def _check(self) -> MMTMConfig:
        for name in ("kernel_size", "frontend_kernel"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd")
        if self.bidirectional and self.encoder == "conv":
            raise ValueError("bidirectional goes with recurrent stages, not with encoder='conv'")
        for name in ("hidden_size", "frontend_stride"):
            value = getattr(self, name)
            if any(v < 1 for v in (value.values() if isinstance(value, dict) else [value])):
                raise ValueError(f"{name} must be at least 1")
        return self
