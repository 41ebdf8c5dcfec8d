"""Options of MMMIE; every one is ours, the abstract names none."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fusionkit import MethodConfig

LowerBound = Literal["infonce", "nwj", "mine", "jsd", "barber_agakov"]
UpperBound = Literal["club", "club_sample", "l1out", "vub"]


class MMMIEConfig(MethodConfig):
    """Encoders, bounds, identity embedding and fusion."""

    hidden_size: int = Field(
        64, ge=1, description="features of every token, and units of an encoder direction"
    )
    encoder: Literal["lstm", "gru", "transformer"] = Field(
        "lstm", description="of every modality: bidirectional recurrent network or transformer"
    )
    encoder_layers: int | dict[str, int] = Field(
        1, description="layers of every encoder, or of each: {modality: layers}"
    )
    encoder_dropout: float = Field(0.1, ge=0, lt=1, description="on and inside the encoders")
    frontend_size: int = Field(
        0, ge=0, description="channels of a convolution before each encoder, 0 for none"
    )
    frontend_kernel: int = Field(5, ge=1, description="odd width of that convolution, in frames")
    frontend_stride: int | dict[str, int] = Field(
        2, description="frames a step after it, for every modality or {modality: stride}"
    )
    bert: str = Field(
        "",
        description="folder of a local Hugging Face model that reads token ids in column 0 of one "
        "modality; empty: none, all modalities are vectors",
    )
    bert_modality: str = Field(
        "", description="the modality of token ids; empty: the first of the data"
    )
    bert_finetune: bool = Field(
        False, description="train the BERT too, at the learning rate of all else"
    )
    maximise: LowerBound | None = Field(
        "infonce",
        description="lower bound of the information between every two modalities; null: none",
    )
    minimise: UpperBound | None = Field(
        "club",
        description="upper bound of the information between a modality's input and its feature; "
        "null: none",
    )
    alpha: float = Field(0.1, ge=0, description="weight of the maximised information, per nat")
    beta: float = Field(0.01, ge=0, description="weight of the minimised information, per nat")
    estimator_size: int = Field(64, ge=1, description="hidden units of every bound's network")
    fit_learning_rate: float = Field(
        1e-3, gt=0, description="of the minimised bounds' networks, which have an Adam of their own"
    )
    identity: Literal["modality_position", "modality", "position"] | None = Field(
        "modality_position",
        description="learnt vectors of modality and step added to the tokens before the fusion; "
        "null: neither",
    )
    identity_context: bool = Field(
        True,
        description="add learnt vectors of what data.context tells of a sample (speaker, "
        "utterance), where it tells something",
    )
    identity_context_dropout: float = Field(
        0.1, ge=0, lt=1, description="part of these that is made unknown in training"
    )
    max_positions: int = Field(
        512, ge=1, description="position vectors; later steps share the last"
    )
    fusion_layers: int = Field(
        2, ge=0, description="transformer layers over the tokens of all modalities; 0 for none"
    )
    num_heads: int = Field(4, ge=1, description="attention heads; have to divide hidden_size")
    fusion_dropout: float = Field(
        0.1, ge=0, lt=1, description="in the fusion, on attention weights and on what layers add"
    )
    pooling: Literal["sum", "mean", "max", "mean_max"] = Field(
        "mean_max", description="of all fused tokens of a sample"
    )
    classifier_dropout: float = Field(0.1, ge=0, lt=1, description="before the last layer")

    @model_validator(mode="after")
    def _check(self) -> MMMIEConfig:
        if self.hidden_size % self.num_heads:
            raise ValueError(
                f"num_heads {self.num_heads} does not divide hidden_size {self.hidden_size}"
            )
        if self.frontend_kernel % 2 == 0:
            raise ValueError("frontend_kernel must be odd")
        for name in ("bert_modality", "bert_finetune"):
            if getattr(self, name) and not self.bert:
                raise ValueError(f"{name} goes with bert=FOLDER alone")
        for name in ("encoder_layers", "frontend_stride"):
            value = getattr(self, name)
            if any(v < 1 for v in (value.values() if isinstance(value, dict) else [value])):
                raise ValueError(f"{name} must be at least 1")
        return self
