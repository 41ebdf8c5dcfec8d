"""Options of TFN, and those of the sub-networks that it shares with LMF."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from fusionkit import MethodConfig


class SubNetworkConfig(MethodConfig):
    """How each modality becomes a vector."""

    encoder: Literal["paper", "conv_bilstm"] = Field(
        "paper",
        description="the paper's: an LSTM for the modalities in recurrent, the mean over time and "
        "three layers for the others; or a convolution and a bidirectional LSTM for all (ours)",
    )
    recurrent: tuple[str, ...] | None = Field(
        None, description="modalities read by an LSTM (the paper: text); null: the first one"
    )
    hidden_size: int | dict[str, int] = Field(
        16, description="vector of a modality that is not recurrent, one size or {modality: size}"
    )
    recurrent_hidden_size: int = Field(128, ge=1, description="units of the LSTM")
    recurrent_output_size: int = Field(64, ge=1, description="vector of a recurrent modality")
    encoder_dropout: float = Field(0.3, ge=0, lt=1, description="inside every sub-network")
    frontend_size: int = Field(
        64, ge=1, description="channels and units a direction of the conv_bilstm encoder"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of its convolution, in frames")
    frontend_stride: int = Field(2, ge=0, description="frames a step after it; 0: no convolution")
    lengths: Literal["true", "padded"] = Field(
        "true",
        description="sequences have their own lengths, or all the padded one (released code)",
    )

    @field_validator("hidden_size")
    @classmethod
    def _positive(cls, value: int | dict[str, int]) -> int | dict[str, int]:
        if any(v < 1 for v in (value.values() if isinstance(value, dict) else [value])):
            raise ValueError("must be at least 1")
        return value

    @field_validator("frontend_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value


class TFNConfig(SubNetworkConfig):
    """Sub-networks, and the layers on their outer product."""

    fusion_dropout: float = Field(0.3, ge=0, lt=1, description="on the outer product")
    post_fusion_size: int = Field(32, ge=1, description="of both layers on the outer product")
    output_range: tuple[float, float] | None = Field(
        None,
        description="lowest and highest value of a regression, by a sigmoid (released code: -3, 3)",
    )

    @model_validator(mode="after")
    def _ordered(self) -> TFNConfig:
        if self.output_range is not None and self.output_range[0] >= self.output_range[1]:
            raise ValueError("output_range: the lowest value comes first")
        return self
