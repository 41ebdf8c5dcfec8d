"""Options of Self-MM."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fusionkit import MethodConfig

Sizes = int | dict[str, int]


class SelfMMConfig(MethodConfig):
    """Encoders, heads, and how the unimodal labels are made."""

    main: str = Field(
        "", description="modality that comes encoded (the paper: BERT's text); empty: the first"
    )
    main_vector: Literal["mean", "first"] = Field(
        "mean", description="its vector: mean over time, or the first step (released: BERT's [CLS])"
    )
    encoder: Literal["paper", "conv_bilstm"] = Field(
        "paper",
        description="the paper's: the main modality as it comes, an LSTM and a linear layer for "
        "the others; or a convolution and a bidirectional LSTM for all (ours)",
    )
    recurrent_size: Sizes = Field(16, description="units of the LSTMs, or {modality: units}")
    vector_size: Sizes = Field(
        16, description="vector of an encoded modality, one size or {modality: size}"
    )
    encoder_dropout: float = Field(0.1, ge=0, lt=1, description="before an encoder's last layer")
    frontend_size: int = Field(
        64, ge=1, description="channels and units a direction of the conv_bilstm encoder"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of its convolution, in frames")
    frontend_stride: int = Field(2, ge=0, description="frames a step after it; 0: no convolution")
    fusion_size: int = Field(128, ge=1, description="layers of the fusion head")
    head_size: Sizes = Field(
        32, description="layers of the unimodal heads, one size or {modality: size}"
    )
    head_dropout: float = Field(0.1, ge=0, lt=1, description="before the heads")
    labels: Literal["corrected", "released"] = Field(
        "corrected",
        description="how unimodal labels are made: released has no guards (see the README)",
    )
    neutral: float = Field(
        0.0, description="value between negative and positive targets (the paper: 0)"
    )
    exclude_neutral: bool = Field(
        False, description="exactly neutral labels are in no class; else they count as positive"
    )
    label_range: float | None = Field(
        None,
        gt=0,
        description="largest distance of a label from neutral (paper: 3); null: the largest among "
        "the training targets",
    )
    learning_rates: dict[str, float] = Field(
        default_factory=dict,
        description="of a modality's encoder, or of `other` (all that has none here), relative to "
        "train.learning_rate: {modality: factor}",
    )
    weight_decays: dict[str, float] = Field(
        default_factory=dict,
        description="the same for the weight decay, not relative; train.weight_decay elsewhere",
    )

    @field_validator("recurrent_size", "vector_size", "head_size")
    @classmethod
    def _positive(cls, value: Sizes) -> Sizes:
        if any(v < 1 for v in (value.values() if isinstance(value, dict) else [value])):
            raise ValueError("must be at least 1")
        return value

    @field_validator("learning_rates")
    @classmethod
    def _above_zero(cls, value: dict[str, float]) -> dict[str, float]:
        if any(v <= 0 for v in value.values()):
            raise ValueError("must be above 0")
        return value

    @field_validator("weight_decays")
    @classmethod
    def _not_negative(cls, value: dict[str, float]) -> dict[str, float]:
        if any(v < 0 for v in value.values()):
            raise ValueError("must be at least 0")
        return value

    @field_validator("frontend_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value
