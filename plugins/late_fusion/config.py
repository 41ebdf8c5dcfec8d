"""Options of late fusion; its encoders take those of ``unimodal`` of kind ``sequence``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fusionkit import MethodConfig


class LateFusionConfig(MethodConfig):
    """The encoders, and how they come together."""

    fusion: Literal["concat", "mean_logits"] = Field(
        "concat",
        description="concat: vectors side by side, one linear layer; mean_logits: a linear layer a "
        "modality, mean of their outputs",
    )
    hidden_size: int = Field(100, ge=1, description="units of an encoder direction")
    frontend_kernel: int = Field(5, ge=1, description="odd width of the convolutions, in frames")
    frontend_stride: int = Field(
        2, ge=0, description="frames a step after them, 0 for no convolution"
    )
    encoder_dropout: float = Field(0.2, ge=0, lt=1, description="on the outputs of the LSTMs")
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    @field_validator("frontend_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        return value
