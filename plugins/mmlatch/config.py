"""Options of MMLatch; the defaults are the paper's, with the released code's defects corrected."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fusionkit import MethodConfig


class MMLatchConfig(MethodConfig):
    """Sizes, masks and treatment of padding."""

    hidden_size: int = Field(
        100, ge=1, description="units of an encoder direction and of the fuser"
    )
    encoder: Literal["lstm", "gru"] = Field("lstm", description="cell of the unimodal encoders")
    encoder_layers: int | dict[str, int] = Field(
        1, description="layers of every encoder, or of each: {modality: layers}"
    )
    bidirectional: bool = Field(True, description="encoders run both ways; directions are summed")
    encoder_dropout: float = Field(
        0.2, ge=0, lt=1, description="on encoder outputs and on their attention weights"
    )
    mask: Literal["lstm", "linear", "boom", "downup"] | None = Field(
        "lstm",
        description="top-down masks by LSTMs, linear layers, two layers with twice (boom) or a "
        "fifth (downup) of hidden_size between them, or none (late fusion)",
    )
    mask_includes_own: bool = Field(
        False, description="a modality's own encoding takes part in its mask, too (slp)"
    )
    mask_rnn_dropout: float = Field(0.1, ge=0, lt=1, description="on the mask LSTMs' outputs")
    mask_mlp_dropout: float = Field(
        0.2, ge=0, lt=1, description="between the layers of boom and downup masks"
    )
    mask_dropout: float = Field(0.2, ge=0, lt=1, description="on the averaged mask")
    mask_scale: float = Field(
        1.0,
        gt=0,
        description="of the masks (paper: 1, masks start at a half; ours: 2, they start at one)",
    )
    mask_dropout_at_eval: bool = Field(
        False, description="keep the mask dropout on in evaluation (released code: true)"
    )
    fuser_dropout: float = Field(
        0.1, ge=0, lt=1, description="on the fuser's attention weights and recurrent outputs"
    )
    lengths: Literal["true", "padded"] = Field(
        "true",
        description="sequences have their own lengths, or all the padded one (released code)",
    )
    padding_in_fuser: bool = Field(
        False,
        description="padded steps take part in the fuser's attention and in the final sum, as in "
        "the released code when it is given true lengths; predictions then depend on the batch",
    )
    time_axis: Literal["shortest", "longest"] = Field(
        "shortest",
        description="unaligned modalities are brought to each sample's shortest one (frames are "
        "averaged, as the paper's over words) or longest one (frames are repeated; ours)",
    )
    residual: bool = Field(
        False, description="add the input of each self-attention to its output (ours)"
    )
    pooling: Literal["sum", "mean", "max", "mean_max"] = Field(
        "sum", description="of the fused sequence over time (paper's code: sum; others are ours)"
    )
    frontend_size: int = Field(
        0, ge=0, description="channels of a convolution before each encoder, 0 for none (ours)"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of that convolution, in frames")
    frontend_stride: int | dict[str, int] = Field(
        2, description="frames a step after it, for every modality or {modality: stride}"
    )
    classifier_dropout: float = Field(0.0, ge=0, lt=1, description="before the last layer (ours)")

    @model_validator(mode="after")
    def _check(self) -> MMLatchConfig:
        if self.frontend_kernel % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        if self.padding_in_fuser and self.pooling != "sum":
            raise ValueError("padding_in_fuser goes with pooling='sum' alone")
        for name in ("encoder_layers", "frontend_stride"):
            value = getattr(self, name)
            if any(v < 1 for v in (value.values() if isinstance(value, dict) else [value])):
                raise ValueError(f"{name} must be at least 1")
        return self
