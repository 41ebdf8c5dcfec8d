"""What Self-MM minimises: the fusion's loss and weighted losses on the unimodal labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fusionkit import MultimodalBatch
from fusionkit_plugins.self_mm.labels import FUSION
from fusionkit_plugins.self_mm.model import SelfMM

Loss = Callable[[Tensor, Tensor], Tensor]


def losses(
    predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor], fusion_loss: Loss
) -> dict[str, Tensor]:
    """Loss of `FUSION` and of each modality.

    A modality's is the mean of ``tanh |own label - fusion label| * |prediction - own label|``: it
    counts the more, the more its labels differ from the targets.

    Args:
        predictions, labels: (B, K) of `FUSION` and of each modality.
        fusion_loss: (prediction, label) -> loss; the paper: mean absolute error.
    """
    found = {FUSION: fusion_loss(predictions[FUSION], labels[FUSION])}
    for name, prediction in predictions.items():
        if name != FUSION:
            weight = torch.tanh((labels[name] - labels[FUSION]).abs())
            found[name] = (weight * (prediction - labels[name]).abs()).mean()
    return found


def training_step(model: SelfMM, batch: MultimodalBatch, task_loss: Loss) -> Tensor:
    """Sum of all losses; then the memory moves the batch's labels and stores its features."""
    predictions, features = model.heads_of(batch)
    labels = model.memory.of(batch.ids, predictions[FUSION].device)
    total = torch.stack(list(losses(predictions, labels, task_loss).values())).sum()
    model.memory.update(batch.ids, features)
    return total
