"""What MMIM minimises, in two stages: the predictors' loss, and the loss of all the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from fusionkit import AuxiliaryObjective, MultimodalBatch, TrainingMemory
from fusionkit_plugins.mmim.entropy import label_groups, mixture_entropy
from fusionkit_plugins.mmim.model import MMIM


def first_stage(model: nn.Module) -> Sequence[AuxiliaryObjective]:
    """Fits the predictors to the encoders, over all batches before every epoch."""
    assert isinstance(model, MMIM)
    config = model.config
    if not config.beta:
        return []
    return [
        AuxiliaryObjective(
            name="likelihood",
            parameters=lambda module: _mmim(module).bounds.parameters(),
            loss=likelihood_loss,
            learning_rate=config.bound_learning_rate,
            weight_decay=config.bound_weight_decay,
            clip_norm=config.bound_clip_norm,
            when="epoch",
        )
    ]


def likelihood_loss(model: nn.Module, batch: MultimodalBatch) -> Tensor:
    """Minus the log-likelihood of the predicted modalities; no gradient for the encoders."""
    mmim = _mmim(model)
    with torch.no_grad():
        vectors = mmim.encode(batch)
    return -mmim.log_likelihood(vectors)


def training_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """task + alpha * contrastive - beta * (log-likelihood + entropy).

    Terms of weight 0 are left out. Only the first stage steps the predictors.
    """
    mmim = _mmim(model)
    assert batch.targets is not None
    config = mmim.config
    vectors = mmim.encode(batch)
    fused, outputs = mmim.fuse(vectors)
    loss = task_loss(outputs, batch.targets)
    if config.alpha:
        loss = loss + config.alpha * mmim.contrastive_loss(vectors, fused)
    if config.beta:
        loss = loss - config.beta * mmim.log_likelihood(vectors)
        if config.entropy != "off":
            loss = loss - config.beta * entropy(mmim, vectors, batch.targets)
    return loss


def entropy(model: MMIM, vectors: dict[str, Tensor], targets: Tensor) -> Tensor:
    """Sum over the pairs of the entropy of the predicted modality; puts the batch into the memory.

    A scalar; 0 until the memory is full, and in the released code for one batch more.
    """
    released, memory = model.config.entropy == "released", model.memory
    rows = model.entropy_rows(vectors, label_groups(model.spec, targets, model.config.split_at))
    total = targets.new_zeros((), dtype=next(iter(vectors.values())).dtype)
    if memory.full and (memory.seen > model.config.memory_batches or not released):
        for pair, groups in rows.items():
            total = total + mixture_entropy(memory.extended(pair, groups), guarded=not released)
    memory.add(rows)
    return total


def memory(model: nn.Module) -> TrainingMemory:
    """The model's own."""
    return _mmim(model).memory


def _mmim(model: nn.Module) -> MMIM:
    assert isinstance(model, MMIM)
    return model
