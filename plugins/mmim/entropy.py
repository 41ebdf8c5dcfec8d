"""Entropy of a modality's vectors as a mixture of Gaussians, one for each group of labels."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fusionkit import DataSpec

# Added to variances, so that vectors that are all alike have a finite entropy.
_RIDGE = 1e-6

Groups = list[Tensor]


def label_groups(spec: DataSpec, targets: Tensor, split_at: float = 0.0) -> Groups:
    """Which samples belong to which Gaussian: masks (B,).

    A regression has two, its first target above and below ``split_at``; samples on it are in none,
    as in the released code. Ours: a classification has one a class, a multilabel task one in all.
    """
    if spec.task == "classification":
        return [targets == label for label in range(spec.num_outputs)]
    if spec.task == "multilabel":
        return [torch.ones(len(targets), dtype=torch.bool, device=targets.device)]
    values = targets.reshape(len(targets), -1)[:, 0]
    return [values > split_at, values < split_at]


def mixture_entropy(groups: Sequence[Tensor], *, guarded: bool) -> Tensor:
    """Mean over the groups of half the log-determinant of their covariance, a scalar.

    The entropy of a mixture of equal weights without its constants and the entropy of the weights.
    Covariances are biased.

    Args:
        groups: at least one (N_k, D).
        guarded: groups of D samples or fewer, whose covariance is singular, count as 0, and a
            small number is added to all variances. Otherwise they give -inf or nan, as in the
            released code.

    Returns:
        In float32 where the inputs have half precision.
    """
    terms = [groups[0].new_zeros((), dtype=_wide(groups[0]).dtype)]
    # Products in bfloat16 would make covariances indefinite.
    with torch.autocast(groups[0].device.type, enabled=False):
        for rows in map(_wide, groups):
            if guarded and len(rows) <= rows.shape[1]:
                continue
            centred = rows - rows.mean(dim=0)
            covariance = centred.T @ centred / len(rows)
            if guarded:
                covariance = covariance + _RIDGE * torch.eye(
                    len(covariance), dtype=rows.dtype, device=rows.device
                )
            terms.append(covariance.logdet())
    return torch.stack(terms).sum() / (2 * len(groups))


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class EntropyMemory:
    """The projected vectors of the batches before this one, by pair and group.

    It is emptied before every epoch, as in the released code, so a checkpoint, which is written
    after one, has nothing to hold.

    Args:
        batches: how many to keep.
    """

    def __init__(self, batches: int) -> None:
        self._kept: deque[dict[str, Groups]] = deque(maxlen=batches)
        self.seen = 0

    @property
    def full(self) -> bool:
        """Whether as many batches are kept as there may be."""
        return len(self._kept) == self._kept.maxlen

    def add(self, rows: Mapping[str, Groups]) -> None:
        """Keep a batch, without its graph, and forget the oldest."""
        self._kept.append({pair: [g.detach() for g in groups] for pair, groups in rows.items()})
        self.seen += 1

    def extended(self, pair: str, groups: Groups) -> Groups:
        """The kept rows and then this batch's, group by group."""
        return [
            torch.cat([*(rows[pair][k] for rows in self._kept), own])
            for k, own in enumerate(groups)
        ]

    def start(self, ids: Sequence[str], targets: Tensor) -> None:
        """Nothing to prepare."""

    def start_epoch(self, epoch: int) -> None:
        """Forget all batches."""
        self._kept.clear()
        self.seen = 0

    def state_dict(self) -> dict[str, Tensor]:
        """Empty."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to restore."""
