"""Options of a single-modality model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fusionkit import MethodConfig

_ATTENTIVE_ONLY = (
    "encoder", "encoder_layers", "bidirectional", "residual", "pooling", "frontend_size",
)  # fmt: skip


class UnimodalConfig(MethodConfig):
    """Which modality, and the sizes of its encoder."""

    modality: str = Field("", description="the one to use; empty: the first of the data")
    encoder_kind: Literal["attentive", "sequence"] = Field(
        "attentive",
        description="attentive: MMLatch's encoder, to compare with mmlatch; sequence: convolution, "
        "bidirectional LSTM, attention and max pooling, to compare with late_fusion",
    )
    hidden_size: int = Field(100, ge=1, description="units of an encoder direction")
    encoder: Literal["lstm", "gru"] = Field("lstm", description="cell of the attentive encoder")
    encoder_layers: int = Field(1, ge=1, description="layers of the attentive encoder")
    bidirectional: bool = Field(True, description="both directions, summed (attentive only)")
    encoder_dropout: float = Field(0.2, ge=0, lt=1, description="on outputs and attention weights")
    residual: bool = Field(
        False, description="add the input of each self-attention to its output (attentive only)"
    )
    pooling: Literal["sum", "mean", "max", "mean_max"] = Field(
        "sum", description="over time (attentive only)"
    )
    frontend_size: int = Field(
        0, ge=0, description="channels of a convolution, 0 for none (attentive only)"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of the convolution, in frames")
    frontend_stride: int = Field(
        2, ge=0, description="frames a step after it; 0 for no convolution (sequence only)"
    )
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer")

    @model_validator(mode="after")
    def _check(self) -> UnimodalConfig:
        if self.frontend_kernel % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        if self.encoder_kind == "attentive" and self.frontend_stride == 0:
            raise ValueError("frontend_stride must be at least 1 with encoder_kind='attentive'")
        if self.encoder_kind == "sequence":
            fields = type(self).model_fields
            for name in _ATTENTIVE_ONLY:
                if getattr(self, name) != fields[name].default:
                    raise ValueError(f"{name} goes with encoder_kind='attentive' alone")
        return self
