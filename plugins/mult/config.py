"""Options of MulT; the defaults are the released code's, with its defects corrected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fusionkit import MethodConfig

Probability = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]


class MulTConfig(MethodConfig):
    """Sizes, dropouts, targets, and treatment of padding."""

    width: int = Field(30, ge=1, description="features of every projected sequence")
    num_heads: int = Field(5, ge=1, description="attention heads; have to divide the width")
    num_layers: int = Field(5, ge=1, description="of every cross-modal transformer")
    memory_layers: int | None = Field(
        None, ge=1, description="of every memory transformer; null: num_layers, at least 3"
    )
    targets: list[str] | None = Field(
        None,
        min_length=1,
        description="modalities that read the others; null: all (one alone: lonly, aonly, vonly of "
        "the released code)",
    )
    kernel_size: Count | dict[str, Count] = Field(
        1, description="odd width of the projecting convolutions in steps, or {modality: width}"
    )
    attention_dropout: Probability | dict[str, Probability] | None = Field(
        None,
        description="on cross-modal attention weights, or {source: probability}, others 0; null: "
        "0.1 where the first modality is the source, else 0",
    )
    memory_attention_dropout: float = Field(
        0.1, ge=0, lt=1, description="on the memory transformers' attention weights"
    )
    relu_dropout: float = Field(0.1, ge=0, lt=1, description="inside the feed-forward layers")
    residual_dropout: float = Field(0.1, ge=0, lt=1, description="on what a residual adds")
    embed_dropout: float = Field(0.25, ge=0, lt=1, description="on transformer inputs")
    input_dropout: Probability | dict[str, Probability] | None = Field(
        None,
        description="on raw features, or {modality: probability}, others 0; null: 0.25 on the "
        "first modality, else 0",
    )
    output_dropout: float = Field(0.0, ge=0, lt=1, description="inside the last residual block")
    attn_mask: bool = Field(
        False,
        description="a step sees a source only as far ahead as their lengths differ (released "
        "code: true)",
    )
    lengths: Literal["true", "padded"] = Field(
        "true",
        description="sequences have their own lengths, or all the padded one (released code)",
    )
    positions: Literal["step", "released"] = Field(
        "step",
        description="every step has its position, or none where channel 0 is exactly 0 (released)",
    )
    pooling: Literal["last", "mean", "max", "mean_max"] = Field(
        "last", description="of the memories over time (paper: last step; others are ours)"
    )
    feedback: Literal["lstm", "linear", "boom", "downup"] | None = Field(
        None, description="MMLatch's top-down masks on the inputs, from the memories (see README)"
    )
    feedback_dropout: float | None = Field(
        None, ge=0, lt=1, description="inside the mask networks; null: MMLatch's for the kind"
    )
    mask_dropout: float = Field(0.2, ge=0, lt=1, description="on the masks of the feedback")
    frontend_size: int = Field(
        0, ge=0, description="channels of a strided convolution on the features, 0: none (ours)"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of that convolution, in frames")
    frontend_stride: Count | dict[str, Count] = Field(
        2, description="frames a step after it, for every modality or {modality: stride}"
    )

    @model_validator(mode="after")
    def _check(self) -> MulTConfig:
        if self.width % self.num_heads:
            raise ValueError(
                f"num_heads: {self.num_heads} heads do not divide width {self.width}; change one"
            )
        sizes = self.kernel_size
        widths = [*(sizes.values() if isinstance(sizes, dict) else [sizes]), self.frontend_kernel]
        if any(width % 2 == 0 for width in widths):
            raise ValueError("kernel_size and frontend_kernel must be odd")
        if self.targets is not None and len(set(self.targets)) < len(self.targets):
            raise ValueError("targets: a modality is named twice")
        if self.feedback is not None and self.targets is not None:
            raise ValueError(
                "feedback needs a memory of every modality; leave targets at null with it"
            )
        return self
