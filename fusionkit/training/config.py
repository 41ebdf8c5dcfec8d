"""Options of the training loop, the same for every method."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Precision = Literal["32-true", "bf16-mixed", "16-mixed", "64-true"]


class TrainConfig(BaseModel):
    """Set with ``--set train.KEY=VALUE``; a method may prefer other defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    epochs: int = Field(30, ge=1, description="at most so many passes over the training data")
    batch_size: int = Field(32, ge=1, description="samples a step")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="update rule")
    learning_rate: float = Field(1e-3, gt=0, le=1e4, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, le=1e4, description="of the optimizer")
    scheduler: Literal["none", "plateau", "onecycle", "cosine", "step"] = Field(
        "none",
        description="plateau: halve after 2 epochs without a better validation loss, down to 1/20; "
        "onecycle and cosine: over all steps of all epochs; step: see step_epochs",
    )
    step_epochs: int | tuple[int, ...] | None = Field(
        None,
        description="of scheduler=step: the rate is multiplied by step_factor every so many "
        "epochs, or after each of these",
    )
    step_factor: float | None = Field(None, gt=0, lt=1, description="of scheduler=step")
    clip_norm: float | None = Field(None, gt=0, description="largest norm of the gradient")
    clip_value: float | None = Field(
        None, gt=0, description="largest absolute value of a gradient's entries"
    )
    accumulate: int = Field(1, ge=1, description="batches whose gradients make one step")
    patience: int | None = Field(
        10, ge=1, description="stop after so many epochs without a better monitored value"
    )
    monitor: str = Field(
        "loss",
        description="validation value that selects the epoch: loss, or a metric's name; last: no "
        "selection, for schedules that end at a rate of zero",
    )
    loss: Literal["auto", "l1", "mse", "huber"] = Field(
        "auto", description="of a regression (auto: l1); other tasks use cross-entropy"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of a classification's loss")
    input_noise: float = Field(
        0.0, ge=0, description="standard deviation of noise added to training features"
    )
    precision: Precision = Field("32-true", description="arithmetic of the model")
    cuda_graph: bool = Field(
        False,
        description="capture the training step as CUDA graphs and replay it (docs/training.md)",
    )
    callbacks: list[str] = Field(default_factory=list, description="registered callbacks to run")

    @model_validator(mode="after")
    def _one_way_to_clip(self) -> TrainConfig:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value exclude each other; set one to null")
        return self

    @field_validator("step_epochs")
    @classmethod
    def _epochs_in_order(cls, value: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        epochs = (value,) if isinstance(value, int) else value
        if epochs is not None and (not epochs or any(a >= b for a, b in zip((0, *epochs), epochs))):
            raise ValueError("must be at least 1, and several in rising order")
        return value

    @model_validator(mode="after")
    def _steps_of_the_step_schedule(self) -> TrainConfig:
        given = [v is not None for v in (self.step_epochs, self.step_factor)]
        if self.scheduler == "step" and not all(given):
            raise ValueError("scheduler=step needs step_epochs and step_factor; set both")
        if self.scheduler != "step" and any(given):
            raise ValueError(
                "step_epochs and step_factor are for scheduler=step, not for "
                f"{self.scheduler}; set both to null"
            )
        return self
