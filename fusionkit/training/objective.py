"""What training minimises, and the optimizer and schedule that do it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit.data.batch import MultimodalBatch
from fusionkit.data.spec import DataSpec
from fusionkit.errors import DataError
from fusionkit.registry.method import AuxiliaryObjective, Method
from fusionkit.training.config import TrainConfig


class TaskLoss:
    """Mean loss of a batch: L1, MSE or Huber; cross-entropy; binary cross-entropy per label."""

    def __init__(self, spec: DataSpec, config: TrainConfig) -> None:
        self.spec, self.config = spec, config

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Outputs (B, num_outputs) against targets (B,) or (B, num_outputs)."""
        if self.spec.task == "classification":
            return F.cross_entropy(outputs, targets, label_smoothing=self.config.label_smoothing)
        targets = targets.to(outputs.dtype).reshape(outputs.shape)
        if self.spec.task == "multilabel":
            return F.binary_cross_entropy_with_logits(outputs, targets)
        if self.config.loss == "mse":
            return F.mse_loss(outputs, targets)
        if self.config.loss == "huber":
            return F.huber_loss(outputs, targets)
        return F.l1_loss(outputs, targets)


class TrainingModule(nn.Module):
    """The model under Fabric: takes a batch as plain dictionaries, gives the loss.

    Fabric converts and scatters dictionaries of tensors; a frozen batch it could not.
    """

    def __init__(
        self,
        model: nn.Module,
        method: Method,
        loss: TaskLoss,
        objectives: Mapping[str, AuxiliaryObjective] | None = None,
    ) -> None:
        super().__init__()
        self.model, self.method, self.loss = model, method, loss
        self.objectives = objectives or {}

    def forward(
        self,
        features: Mapping[str, Tensor],
        lengths: Mapping[str, Tensor],
        targets: Tensor,
        ids: list[str],
        objective: str | None = None,
        context: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Loss of one batch: the main one, or that of an auxiliary objective."""
        batch = MultimodalBatch(features, lengths, targets, ids, context or {})
        if objective is not None:
            return self.objectives[objective].loss(self.model, batch)
        if self.method.training_step is not None:
            return self.method.training_step(self.model, batch, self.loss)
        outputs = self.model(batch)
        expected = (len(batch), self.loss.spec.num_outputs)
        if tuple(outputs.shape) != expected:
            raise DataError(
                f"{self.method.name}: the model gave outputs of shape {tuple(outputs.shape)}, "
                f"the task needs {expected}"
            )
        return self.loss(outputs, targets)


def build_optimizer(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    config: TrainConfig,
    *,
    capturable: bool = False,
) -> torch.optim.Optimizer:
    """The optimizer that ``config.optimizer`` names (SGD with momentum 0.9).

    Args:
        parameters: to train, or groups of them as `torch.optim.Optimizer` takes; the rates of the
            configuration are for what a group leaves open.
        capturable: its steps can be part of a CUDA graph, with rates in tensors; Adam's with the
            first beta in one, too, where the schedule changes it.
    """
    rate, decay = config.learning_rate, config.weight_decay
    # Adam's forms that take many parameters at a time have betas as numbers only.
    foreach = False if capturable and cycles_momentum(config) else None
    if config.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=rate, weight_decay=decay, capturable=capturable, foreach=foreach
        )
    if config.optimizer == "sgd":
        # Of torch's kinds of SGD only the fused one reads a rate on the device.
        return torch.optim.SGD(
            parameters, lr=rate, weight_decay=decay, momentum=0.9, fused=capturable or None
        )
    return torch.optim.Adam(
        parameters, lr=rate, weight_decay=decay, capturable=capturable, foreach=foreach
    )


def cycles_momentum(config: TrainConfig) -> bool:
    """Whether the schedule changes Adam's first beta, or the momentum of SGD, at every step."""
    return config.scheduler == "onecycle"


class Schedule:
    """A learning-rate schedule that is stepped in the right place whatever its kind.

    The ratio between the rates of parameter groups stays what it is at the start.

    Args:
        optimizer: of the main loss. followers: others whose rate keeps its ratio to the first
            group's of ``optimizer``.
        steps_per_epoch: optimizer steps.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        config: TrainConfig,
        steps_per_epoch: int,
        followers: Sequence[torch.optim.Optimizer] = (),
    ) -> None:
        steps = self._last_step = steps_per_epoch * config.epochs
        rates = [group["lr"] for group in optimizer.param_groups]
        self._optimizer, self._rate = optimizer, rates[0]
        self._followers = [(other, other.param_groups[0]["lr"]) for other in followers]
        self._plateau: torch.optim.lr_scheduler.ReduceLROnPlateau | None = None
        self._per_step: torch.optim.lr_scheduler.LRScheduler | None = None
        self._per_epoch: torch.optim.lr_scheduler.LRScheduler | None = None
        if config.scheduler == "plateau":
            # eps=0: a group with a small rate is reduced as long as the others are.
            self._plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
                optimizer,
                factor=0.5,
                patience=2,
                cooldown=2,
                min_lr=[rate / 20 for rate in rates],
                eps=0,
            )
        elif config.scheduler == "onecycle":
            self._per_step = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, max_lr=rates, total_steps=steps
            )
        elif config.scheduler == "cosine":
            self._per_step = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        elif config.scheduler == "step":
            self._per_epoch = torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda epoch: _step_share(config, epoch)
            )
        self._follow()

    def after_step(self) -> None:
        """Call after every optimizer step."""
        # The rate after the very last step would belong to a step that never comes.
        if self._per_step is not None and self._per_step.last_epoch + 1 < self._last_step:
            self._per_step.step()
            self._follow()

    def after_epoch(self, validation_loss: float) -> None:
        """Call after every validation."""
        if self._plateau is not None:
            self._plateau.step(validation_loss)
        elif self._per_epoch is not None:
            self._per_epoch.step()
        self._follow()

    def state_dict(self) -> dict[str, object]:
        """State for a checkpoint; the rates themselves are in the optimizers'."""
        scheduler = self._plateau or self._per_step or self._per_epoch
        return {} if scheduler is None else scheduler.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Continue from a checkpoint."""
        scheduler = self._plateau or self._per_step or self._per_epoch
        if scheduler is not None:
            scheduler.load_state_dict(state)

    def _follow(self) -> None:
        share = self._optimizer.param_groups[0]["lr"] / self._rate
        for optimizer, rate in self._followers:
            for group in optimizer.param_groups:
                group["lr"] = rate * share


def _step_share(config: TrainConfig, epoch: int) -> float:
    """Share of the learning rate after ``epoch`` epochs of ``scheduler=step``."""
    assert config.step_epochs is not None and config.step_factor is not None
    if isinstance(config.step_epochs, int):
        return config.step_factor ** (epoch // config.step_epochs)
    return config.step_factor ** sum(epoch >= drop for drop in config.step_epochs)
