"""Options of a single-modality model; those of the encoder are MMLatch's."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fusionkit import MethodConfig


class UnimodalConfig(MethodConfig):
    """Which modality, and the sizes of its encoder."""

    modality: str = Field("", description="the one to use; empty: the first of the data")
    hidden_size: int = Field(100, ge=1, description="units of an encoder direction")
    encoder: Literal["lstm", "gru"] = Field("lstm", description="cell of the encoder")
    encoder_layers: int = Field(1, ge=1, description="layers of the encoder")
    bidirectional: bool = Field(True, description="both directions, summed")
    encoder_dropout: float = Field(0.2, ge=0, lt=1, description="on outputs and attention weights")
    residual: bool = Field(False, description="add the input of each self-attention to its output")
    pooling: Literal["sum", "mean", "max", "mean_max"] = Field("sum", description="over time")
    frontend_size: int = Field(0, ge=0, description="channels of a convolution, 0 for none")
    frontend_kernel: int = Field(5, ge=1, description="odd width of that convolution, in frames")
    frontend_stride: int = Field(2, ge=1, description="frames a step after it")
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    @field_validator("frontend_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        return value
