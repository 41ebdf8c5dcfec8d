"""Options of MAG."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from fusionkit import MethodConfig

PoolingKind = Literal["mean", "max", "mean_max", "attention_max"]

# What a recurrent network has and a BERT has not.
_WITHOUT_BERT = (
    "encoder",
    "hidden_size",
    "encoder_layers",
    "bidirectional",
    "encoder_dropout",
    "pooling",
    "frontend_kernel",
    "frontend_stride",
)


class BertSizes(MethodConfig):
    """Architecture of a BERT; all else is as in the original (GELU, dropout 0.1, eps 1e-12)."""

    vocabulary: int = Field(ge=1, description="token ids, from 0 on")
    hidden_size: int = Field(ge=1, description="features of a token")
    layers: int = Field(ge=1, description="of the encoder")
    heads: int = Field(ge=1, description="of attention; have to divide hidden_size")
    intermediate_size: int = Field(ge=1, description="units inside the feed-forward networks")
    max_tokens: int = Field(ge=1, description="position vectors")
    token_types: int = Field(2, ge=1, description="segment vectors, of which the first is used")

    @model_validator(mode="after")
    def _check(self) -> BertSizes:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads {self.heads} do not divide hidden_size {self.hidden_size}")
        return self


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
    bert: str = Field(
        "",
        description="folder of a local Hugging Face BERT that reads token ids in column 0 of the "
        "main modality, with the gate behind its embedding layer (train with --preset bert); "
        "empty: a recurrent network",
    )
    bert_finetune: bool = Field(
        True, description="train the BERT too, at the learning rate of all else (paper: yes)"
    )
    bert_sizes: BertSizes | None = Field(
        None,
        description="in place of bert, an untrained one for weights that a checkpoint brings: "
        "{vocabulary, hidden_size, layers, heads, intermediate_size, max_tokens}",
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
    classifier_dropout: float = Field(
        0.0, ge=0, lt=1, description="before the last layer (released code: 0.1, as in BERT)"
    )
    decay_norms_and_biases: bool = Field(
        True, description="train.weight_decay is for all parameters (released code: false)"
    )

    @field_validator("frontend_kernel")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd")
        return value

    @property
    def has_bert(self) -> bool:
        """Whether the gate sits in a BERT."""
        return bool(self.bert) or self.bert_sizes is not None

    @model_validator(mode="after")
    def _check(self) -> MAGConfig:
        if self.bert and self.bert_sizes is not None:
            raise ValueError("bert and bert_sizes exclude each other; leave one out")
        if not self.bert_finetune and not self.bert:
            raise ValueError("bert_finetune=false goes with bert=FOLDER alone")
        if self.has_bert:
            for name in _WITHOUT_BERT:
                if getattr(self, name) != type(self).model_fields[name].default:
                    raise ValueError(
                        f"{name} is of the recurrent network that a BERT replaces; leave it out"
                    )
        return self
