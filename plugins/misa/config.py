"""Options of MISA; the defaults are the released code's, with its defects corrected."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from fusionkit import MethodConfig

EncoderKind = Literal["paper", "mean", "conv_bilstm"]


class MISAConfig(MethodConfig):
    """Encoders, sizes, and the weights of the losses."""

    hidden_size: int = Field(128, ge=1, description="features of every projected modality")
    encoder: EncoderKind | dict[str, EncoderKind] = Field(
        "paper",
        description="of all, or {modality: kind}, the others paper. paper: two stacked recurrent "
        "networks; mean: over time, for vectors of a language model; conv_bilstm: convolution, "
        "LSTM, attention and max pooling (ours)",
    )
    cell: Literal["lstm", "gru"] = Field("lstm", description="of the stacked recurrent networks")
    rnn_size: int | None = Field(
        None, ge=1, description="units of their directions; null: the modality's features (paper)"
    )
    frontend_size: int = Field(64, ge=1, description="channels of conv_bilstm, units of its LSTM")
    frontend_kernel: int = Field(5, ge=1, description="odd width of its convolution, in frames")
    frontend_stride: PositiveInt | dict[str, PositiveInt] = Field(
        2, description="frames a step after it, for every modality or {modality: stride}"
    )
    encoder_dropout: float = Field(0.0, ge=0, lt=1, description="on the outputs of its LSTM")
    activation: Literal["relu", "tanh", "elu", "leakyrelu", "hardtanh"] = Field(
        "relu", description="after projections, in the head and in the discriminator"
    )
    heads: int = Field(2, ge=1, description="of the fusion transformer; divides hidden_size")
    transformer_layers: int = Field(1, ge=1, description="of the fusion transformer")
    feedforward_size: int = Field(2048, ge=1, description="inner width of its layers")
    transformer_dropout: float = Field(0.1, ge=0, lt=1, description="in its layers")
    dropout: float = Field(0.5, ge=0, lt=1, description="in the head and in the discriminator")
    difference_weight: float = Field(0.3, ge=0, description="of the orthogonality loss")
    similarity: Literal["cmd", "adversarial"] = Field(
        "cmd",
        description="what makes shared vectors alike: central moments, or a discriminator of "
        "modalities behind reversed gradients",
    )
    similarity_weight: float = Field(1.0, ge=0, description="of the similarity loss")
    moments: int = Field(5, ge=1, description="highest order of cmd")
    cmd_gradient_at_equality: Literal["zero", "nan"] = Field(
        "zero", description="where two moments are equal (released code: nan)"
    )
    reversal_scale: float = Field(1.0, ge=0, description="of the reversed gradients")
    reconstruction_weight: float = Field(1.0, ge=0, description="of the reconstruction loss")
    reconstruction: Literal["mse", "scale_invariant"] = Field(
        "mse",
        description="scale_invariant: mean squared error without the part that one shift of all "
        "elements explains (ours, from domain separation networks)",
    )

    @model_validator(mode="after")
    def _check(self) -> MISAConfig:
        if self.frontend_kernel % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        if self.hidden_size % self.heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of heads {self.heads}"
            )
        return self
