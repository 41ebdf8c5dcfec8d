"""What MMMIE minimises: the task's loss, less the maximised and plus the minimised information."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from fusionkit import AuxiliaryObjective, MultimodalBatch
from fusionkit_plugins.mmmie.model import MMMIE


def training_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """``task - alpha * I(modality; modality) + beta * I(input; feature)``.

    A batch of one sample has no other pairs to compare with: its loss is the task's alone.
    """
    mmmie = cast(MMMIE, model)
    assert batch.targets is not None
    encoded = mmmie.encode(batch)
    loss = task_loss(mmmie.predict(encoded), batch.targets)
    if len(batch) == 1:
        return loss
    features = encoded.features()
    if mmmie.maximised is not None:
        loss = loss - mmmie.config.alpha * mmmie.maximised(features)
    if mmmie.minimised is not None:
        loss = loss + mmmie.config.beta * mmmie.minimised(mmmie.inputs(batch), features)
    return loss


def auxiliary(model: nn.Module) -> Sequence[AuxiliaryObjective]:
    """Fits the networks of the minimised bounds to the present features, before every step."""
    mmmie = cast(MMMIE, model)
    if mmmie.minimised is None:
        return []
    return [
        AuxiliaryObjective(
            name="conditionals",
            parameters=_conditionals,
            loss=fitting_loss,
            learning_rate=mmmie.config.fit_learning_rate,
        )
    ]


def fitting_loss(model: nn.Module, batch: MultimodalBatch) -> Tensor:
    """Loss of the variational networks; the encoders get no gradient."""
    mmmie = cast(MMMIE, model)
    assert mmmie.minimised is not None
    with torch.no_grad():
        features, inputs = mmmie.encode(batch).features(), mmmie.inputs(batch)
    return mmmie.minimised.fitting_loss(inputs, features)


def _conditionals(model: nn.Module) -> Iterable[nn.Parameter]:
    minimised = cast(MMMIE, model).minimised
    assert minimised is not None
    return minimised.parameters()
