"""Options of MMIM; the defaults are the released code's, with its defects corrected."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from fusionkit import MethodConfig

Activation = Literal["relu", "tanh"]


class MMIMConfig(MethodConfig):
    """Encoders, the two kinds of bounds, their weights, and how the predictors are fitted."""

    main: str = Field(
        "", description="modality that the bounds start from (paper: text); empty: the first"
    )
    encoder: Literal["paper", "conv_bilstm"] = Field(
        "paper",
        description="paper: last state of an LSTM; conv_bilstm: convolution, LSTM, attention and "
        "max pooling (ours); a linear layer follows either",
    )
    main_encoder: Literal["same", "first", "mean"] = Field(
        "same",
        description="of the main modality. same: as the others (ours); first: its first step (the "
        "paper: BERT's [CLS]); mean: over time (ours)",
    )
    encoder_hidden: PositiveInt | dict[str, PositiveInt] = Field(
        16, description="units of an LSTM direction, for every modality or {modality: units}"
    )
    encoder_size: PositiveInt | dict[str, PositiveInt] = Field(
        16, description="features after the linear layer, for every modality or {modality: size}"
    )
    encoder_layers: int = Field(1, ge=1, description="layers of every LSTM")
    bidirectional: bool = Field(False, description="LSTMs run both ways")
    first_layer_state: bool = Field(
        False,
        description="bidirectional LSTMs of several layers give the states of the first (released "
        "code: true); the upper layers are then not trained",
    )
    encoder_dropout: float = Field(
        0.0, ge=0, lt=1, description="between LSTM layers and on the state (or on conv_bilstm)"
    )
    frontend_size: int = Field(64, ge=1, description="channels of conv_bilstm, units of its LSTM")
    frontend_kernel: int = Field(5, ge=1, description="odd width of its convolution, in frames")
    frontend_stride: PositiveInt | dict[str, PositiveInt] = Field(
        2, description="frames a step after it, for every modality or {modality: stride}"
    )
    hidden_size: int = Field(128, ge=1, description="features of the fused vector")
    dropout: float = Field(0.1, ge=0, lt=1, description="on the vectors before the fusion")
    alpha: float = Field(0.1, ge=0, description="weight of the contrastive terms")
    beta: float = Field(
        0.1, ge=0, description="weight of the log-likelihood and of the entropy; 0: no first stage"
    )
    all_pairs: bool = Field(
        False, description="bounds between the other modalities too (released code: add_va)"
    )
    bound_activation: Activation = Field("relu", description="inside the predictors")
    bounded_log_variance: bool = Field(
        True,
        description="a Tanh ends the predictor of the log-variance, as the released configuration "
        "asks for (released code: false)",
    )
    log_variance_term: bool = Field(
        True, description="the log-likelihood holds its log-variance (released code: false)"
    )
    entropy: Literal["corrected", "released", "off"] = Field(
        "corrected",
        description="entropy of each predicted modality. corrected: groups with too few samples "
        "for a covariance are left out; released: they are not, which can give nan, and the term "
        "starts one batch late",
    )
    split_at: float = Field(
        0.0, description="regression: samples above and below are two groups of the entropy"
    )
    memory_batches: int = Field(
        1, ge=1, description="batches before this one whose samples the entropy counts too"
    )
    cpc_layers: int = Field(1, ge=1, description="of the contrastive predictors")
    cpc_activation: Activation = Field("tanh", description="between their layers")
    cpc_one_activation: bool = Field(
        False, description="an activation after the first layer alone (released code: true)"
    )
    bound_learning_rate: float = Field(1e-3, gt=0, description="of the first stage")
    bound_weight_decay: float = Field(1e-4, ge=0, description="of the first stage")
    bound_clip_norm: float | None = Field(1.0, gt=0, description="of the first stage")

    @model_validator(mode="after")
    def _check(self) -> MMIMConfig:
        if self.frontend_kernel % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        return self
