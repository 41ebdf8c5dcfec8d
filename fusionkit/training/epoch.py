"""One epoch of training: the steps of the main loss and of the auxiliary objectives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from fusionkit.data.batch import MultimodalBatch
from fusionkit.errors import FusionKitError
from fusionkit.ops.lengths import within
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.config import TrainConfig
from fusionkit.training.objective import Schedule


@dataclass
class Trainer:
    """What takes optimizer steps, all of it set up by Fabric.

    Args:
        module: a `TrainingModule`. optimizer: of the main loss. others: name of an auxiliary
            objective -> its optimizer.
    """

    fabric: Fabric
    module: Any
    optimizer: Any
    others: dict[str, Any]
    auxiliary: Auxiliary

    def loss(self, batch: MultimodalBatch, objective: str | None, where: str | None) -> Tensor:
        """Loss of a batch; raises unless it is finite. Nobody looks where ``where`` is None."""
        loss: Tensor = self.module(
            batch.features,
            batch.lengths,
            batch.targets,
            batch.ids,
            objective=objective,
            context=batch.context,
        )
        if where is not None and not torch.isfinite(loss):
            kind = "training" if objective is None else f"auxiliary {objective!r}"
            raise not_finite(kind, loss.item(), where)
        return loss

    def auxiliary_step(self, batch: MultimodalBatch, name: str, where: str) -> float:
        """One step of an auxiliary objective; returns its loss."""
        loss, optimizer = self.loss(batch, name, where), self.others[name]
        self.fabric.backward(loss, inputs=self.auxiliary.parameters[name])
        most = self.auxiliary.objectives[name].clip_norm
        if most is not None:
            self.fabric.clip_gradients(self.module, optimizer, max_norm=most)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the main loss."""
        if self.others:
            self.fabric.backward(loss, inputs=self.auxiliary.main)
        else:
            self.fabric.backward(loss)


def not_finite(kind: str, loss: float, where: str) -> FusionKitError:
    """The error of a loss that is NaN or infinite."""
    return FusionKitError(
        f"the {kind} loss is {loss} in {where}; lower train.learning_rate or set train.clip_norm=1"
    )


def main_step(
    trainer: Trainer,
    batch: MultimodalBatch,
    config: TrainConfig,
    *,
    where: str | None,
    batches: int = 1,
    update: bool = True,
) -> Tensor:
    """Loss and gradients of a batch, and the optimizer's update; captured graphs hold this, too.

    Args:
        where: names the batch in an error; None: no value is read, so nothing waits for a device.
        batches: whose gradients make one step. update: take the step, otherwise gradients add up.

    Returns:
        The main loss, a scalar.
    """
    loss = trainer.loss(batch, None, where)
    trainer.backward(loss / batches)
    if update:
        _update(trainer, config)
    return loss


def train_epoch(
    trainer: Trainer,
    loader: Any,
    schedule: Schedule,
    config: TrainConfig,
    *,
    epoch: int,
    after_batch: Callable[[], None],
) -> dict[str, float]:
    """Mean of every loss over the epoch: ``loss``, and each auxiliary objective by its name."""
    trainer.module.train()
    totals, count = dict.fromkeys(["loss", *trainer.others], 0.0), 0
    device, batches = trainer.fabric.device, len(loader)

    def auxiliary_steps(batch: MultimodalBatch, when: str, where: str) -> None:
        for name in trainer.auxiliary.of(when):
            totals[name] += trainer.auxiliary_step(batch, name, where) * len(batch)

    if trainer.auxiliary.of("epoch"):
        for index, batch in enumerate(loader):
            batch = noisy(batch.to(device), config.input_noise)
            auxiliary_steps(batch, "epoch", f"epoch {epoch}, batch {index + 1}")
    for index, batch in enumerate(loader):
        batch = noisy(batch.to(device), config.input_noise)
        where = f"epoch {epoch}, batch {index + 1}"
        auxiliary_steps(batch, "step", where)
        first_of_step = index - index % config.accumulate
        update = (index + 1) % config.accumulate == 0 or index + 1 == batches
        loss = main_step(
            trainer,
            batch,
            config,
            where=where,
            batches=min(config.accumulate, batches - first_of_step),
            update=update,
        )
        totals["loss"], count = totals["loss"] + loss.item() * len(batch), count + len(batch)
        if update:
            schedule.after_step()
        after_batch()
    return {name: total / count for name, total in totals.items()}


def _update(trainer: Trainer, config: TrainConfig) -> None:
    if config.clip_norm is not None:
        trainer.fabric.clip_gradients(
            trainer.module, trainer.optimizer, max_norm=config.clip_norm, error_if_nonfinite=False
        )
    elif config.clip_value is not None:
        trainer.fabric.clip_gradients(trainer.module, trainer.optimizer, clip_val=config.clip_value)
    trainer.optimizer.step()
    trainer.optimizer.zero_grad()


def noisy(batch: MultimodalBatch, std: float) -> MultimodalBatch:
    """The batch with normal noise of this standard deviation on its valid steps."""
    if std == 0.0:
        return batch
    noisy: dict[str, Tensor] = {}
    for name, x in batch.features.items():
        valid = within(batch.lengths[name], x.shape[1])[..., None]
        noisy[name] = x + std * torch.randn_like(x) * valid
    return replace(batch, features=noisy)
