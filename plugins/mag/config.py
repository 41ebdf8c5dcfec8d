"""Options of MAG."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fusionkit import MethodConfig

PoolingKind = Literal["mean", "max", "mean_max", "attention_max"]


class MAGConfig(MethodConfig):
    """The gate, and the network that it sits in."""

    main: str = Field(
        "", description="modality that the others shift (the paper: text); empty: the first"
    )
    encoder: Literal["lstm", "gru", "conv_bilstm"] = Field(
        "lstm",
        description="a linear layer, the gate, a recurrent network; or a convolution on every "
        "modality, the gate, a bidirectional LSTM (ours; in place of the paper's BERT)",
    )
    hidden_size: int = Field(
        64, ge=1, description="features that the gate shifts, and units of an encoder direction"
    )
    encoder_layers: int = Field(1, ge=1, description="layers of the recurrent network")
    bidirectional: bool = Field(True, description="it runs both ways (conv_bilstm: always)")
    encoder_dropout: float = Field(0.1, ge=0, lt=1, description="on its outputs")
    beta: float = Field(
        1.0, gt=0, description="largest shift, as a part of the main features' norm"
    )
    gate_dropout: float = Field(0.5, ge=0, lt=1, description="on the shifted features")
    pooling: PoolingKind | None = Field(
        None, description="over time; null: attention_max for conv_bilstm, else mean"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of the convolutions, in frames")
    frontend_stride: int = Field(2, ge=1, description="frames a step after them")
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer (ours)")

    @field_validator("frontend_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value
