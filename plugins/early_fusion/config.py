"""Options of early fusion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fusionkit import MethodConfig


class EarlyFusionConfig(MethodConfig):
    """The common time axis, and the one encoder on it."""

    encoder_kind: Literal["lstm", "sequence"] = Field(
        "lstm",
        description="lstm: its last state (EF-LSTM); sequence: convolution, bidirectional LSTM, "
        "attention and max pooling",
    )
    time_axis: Literal["longest", "shortest"] = Field(
        "longest",
        description="unaligned modalities are brought to each sample's longest one (frames are "
        "repeated) or shortest one (frames are averaged)",
    )
    hidden_size: int = Field(100, ge=1, description="units of an encoder direction")
    encoder_layers: int = Field(1, ge=1, description="layers of the encoder (lstm only)")
    encoder_dropout: float = Field(
        0.2, ge=0, lt=1, description="on the outputs of the encoder, and between its layers"
    )
    frontend_kernel: int = Field(
        5, ge=1, description="odd width of the convolution, in frames (sequence only)"
    )
    frontend_stride: int = Field(
        2, ge=0, description="frames a step after it, 0 for no convolution (sequence only)"
    )
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    @model_validator(mode="after")
    def _check(self) -> EarlyFusionConfig:
        if self.frontend_kernel % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        if self.encoder_kind == "sequence" and self.encoder_layers != 1:
            raise ValueError("encoder_layers goes with encoder_kind='lstm' alone")
        return self
