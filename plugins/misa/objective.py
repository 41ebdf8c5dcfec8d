"""What MISA minimises: the task loss and three losses on its representations."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import MultimodalBatch
from fusionkit.nn.moment_discrepancy import central_moment_discrepancy
from fusionkit_plugins.misa.losses import difference_loss, reconstruction_loss
from fusionkit_plugins.misa.model import MISA, Representations


def training_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Task loss plus the weighted losses on representations; those of weight 0 are left out."""
    assert isinstance(model, MISA)
    assert batch.targets is not None
    config = model.config
    parts = model.represent(model.utterances(batch))
    loss = task_loss(model.predict(parts), batch.targets)
    if config.difference_weight:
        loss = loss + config.difference_weight * difference(parts)
    if config.similarity_weight:
        loss = loss + config.similarity_weight * similarity(model, parts)
    if config.reconstruction_weight:
        loss = loss + config.reconstruction_weight * reconstruction(model, parts)
    return loss


def difference(parts: Representations) -> Tensor:
    """Sum over private and shared of each modality, and over all pairs of private vectors."""
    pairs = [(parts.private[name], shared) for name, shared in parts.shared.items()]
    pairs += combinations(parts.private.values(), 2)
    return torch.stack([difference_loss(*pair) for pair in pairs]).sum()


def similarity(model: MISA, parts: Representations) -> Tensor:
    """Mean discrepancy over all pairs of shared vectors, or how well modalities are told apart."""
    if model.discriminator is not None:
        logits = torch.stack(list(model.domains(parts).values()))
        labels = torch.arange(len(logits), device=logits.device)[:, None].expand(logits.shape[:2])
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return torch.stack(
        [
            central_moment_discrepancy(
                *pair,
                moments=model.config.moments,
                nan_at_equality=model.config.cmd_gradient_at_equality == "nan",
            )
            for pair in combinations(parts.shared.values(), 2)
        ]
    ).mean()


def reconstruction(model: MISA, parts: Representations) -> Tensor:
    """Mean over the modalities; the gradient flows into the projected vectors as well."""
    rebuilt = model.reconstruct(parts)
    return torch.stack(
        [
            reconstruction_loss(rebuilt[name], projected, model.config.reconstruction)
            for name, projected in parts.projected.items()
        ]
    ).mean()
