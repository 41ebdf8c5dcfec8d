"""Unimodal labels, made while training from where a sample's features lie between two classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fusionkit import DataError, FusionKitError

FUSION = "(fusion)"
"""Key of the fused representation beside the modalities; no modality can have this name."""

_EPS = 1e-8


class UnimodalLabels:
    """A label of every training sample for every modality (ULGM of Self-MM), as a training memory.

    All labels start as the targets. From the second epoch on, a batch's labels move towards what
    its features say relative to the class centres: the means of the stored features of all samples
    with a positive and with a negative label of that modality. Outputs of a regression with
    several have labels and centres of their own.

    Args:
        sizes: features of `FUSION` and of each modality.
        limit: largest distance of a label from ``neutral``; None: the largest of the targets.
        neutral: what separates negative from positive. exclude_neutral: labels that equal it are
            in no class, else they are positive.
        released: as the released code: the ratio of the distances has no guard, samples not seen
            yet count with features of zero, and a class without samples makes labels nan.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        *,
        limit: float | None = None,
        neutral: float = 0.0,
        exclude_neutral: bool = False,
        released: bool = False,
    ) -> None:
        self.sizes, self.limit, self.neutral = dict(sizes), limit, neutral
        self.exclude_neutral, self.released = exclude_neutral, released
        self.epoch = 0
        self._rows: dict[str, int] = {}
        self._labels: dict[str, Tensor] = {}
        self._features: dict[str, Tensor] = {}
        self._seen = torch.zeros(0, dtype=torch.bool)
        self._limit = 0.0

    def start(self, ids: Sequence[str], targets: Tensor) -> None:
        """All labels are the targets, (N,) or (N, K) float; no features are known.

        Raises:
            DataError: two samples have one name.
        """
        self._rows = {name: row for row, name in enumerate(ids)}
        if len(self._rows) != len(ids):
            raise DataError("self_mm: two training samples have one id; labels are kept by id")
        labels = targets.reshape(len(ids), -1)
        self._labels = {name: labels.clone() for name in self.sizes}
        self._features = {n: labels.new_zeros(len(ids), size) for n, size in self.sizes.items()}
        self._seen = torch.zeros(len(ids), dtype=torch.bool)
        farthest = (labels - self.neutral).abs().max().item() if len(ids) else 0.0
        self._limit = farthest if self.limit is None else self.limit

    def start_epoch(self, epoch: int) -> None:
        """Epochs count from 1; labels move from the second on."""
        self.epoch = epoch

    def of(self, ids: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """Current labels (B, K) of `FUSION` (the targets) and of each modality."""
        rows = self._find(ids).to(device)
        self._move(device)
        return {name: labels[rows] for name, labels in self._labels.items()}

    def update(self, ids: Sequence[str], features: Mapping[str, Tensor]) -> None:
        """After the loss of a batch: move its labels, then store its features.

        Args:
            features: (B, size) of `FUSION` and of each modality; no gradient is kept.
        """
        device = features[FUSION].device
        rows = self._find(ids).to(device)
        self._move(device)
        current = {n: x.detach().to(self._features[n].dtype) for n, x in features.items()}
        if self.epoch > 1:
            # Distances between near vectors need more than half precision.
            with torch.autocast(device.type, enabled=False):
                self._move_labels(rows, current)
        for name, x in current.items():
            self._features[name][rows] = x
        self._seen[rows] = True

    def centres(self, name: str) -> tuple[Tensor, Tensor]:
        """Mean stored features (K, size) of the positive and of the negative class."""
        labels = self._labels[name] - self.neutral
        positive = labels > 0 if self.exclude_neutral else labels >= 0
        known = torch.ones_like(self._seen) if self.released else self._seen
        negative = labels < 0
        return self._mean(name, positive & known[:, None]), self._mean(
            name, negative & known[:, None]
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Labels, features, and which samples have been seen."""
        state = {f"labels.{name}": x for name, x in self._labels.items()}
        state |= {f"features.{name}": x for name, x in self._features.items()}
        return {name: x.detach().cpu().clone() for name, x in {**state, "seen": self._seen}.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue; comes after `start`.

        Raises:
            ValueError: the state belongs to other samples or sizes.
        """
        for name, have in self.state_dict().items():
            if state[name].shape != have.shape:
                raise ValueError(f"{name} has shape {tuple(state[name].shape)}")
        self._labels = {name: state[f"labels.{name}"].clone() for name in self.sizes}
        self._features = {name: state[f"features.{name}"].clone() for name in self.sizes}
        self._seen = state["seen"].clone()

    def _find(self, ids: Sequence[str]) -> Tensor:
        try:
            return torch.tensor([self._rows[name] for name in ids], dtype=torch.int64)
        except KeyError as error:
            raise FusionKitError(
                f"self_mm: sample {error} is not among the training samples; call start() with all "
                "of them first"
            ) from None

    def _move(self, device: torch.device) -> None:
        if self._seen.device != device:
            self._labels = {name: x.to(device) for name, x in self._labels.items()}
            self._features = {name: x.to(device) for name, x in self._features.items()}
            self._seen = self._seen.to(device)

    def _mean(self, name: str, members: Tensor) -> Tensor:
        weights = members.to(self._features[name].dtype)
        return weights.T @ self._features[name] / weights.sum(dim=0)[:, None]

    def _nearness(self, name: str, features: Tensor) -> Tensor:
        """delta (B, K): above 0 nearer to the positive centre, below 0 nearer to the negative."""
        positive, negative = self.centres(name)
        to_positive = (features[:, None] - positive).norm(dim=-1)
        to_negative = (features[:, None] - negative).norm(dim=-1)
        nearness: Tensor = (to_negative - to_positive) / (to_positive + _EPS)
        return nearness

    def _move_labels(self, rows: Tensor, features: Mapping[str, Tensor]) -> None:
        target = self._labels[FUSION][rows] - self.neutral
        nearness = {name: self._nearness(name, x) for name, x in features.items()}
        old, new = (self.epoch - 1) / (self.epoch + 1), 2 / (self.epoch + 1)
        propose = released_label if self.released else corrected_label
        for name in self.sizes:
            if name == FUSION:
                continue
            found = propose(target, nearness[name], nearness[FUSION], self._limit) + self.neutral
            current = self._labels[name][rows]
            moved = old * current + new * found
            if not self.released:  # without one of the classes there is nothing to go by
                moved = torch.where(moved.isfinite(), moved, current)
            self._labels[name][rows] = moved


def released_label(target: Tensor, own: Tensor, fused: Tensor, limit: float) -> Tensor:
    """Mean of the target scaled by, and shifted by, how the modality differs from the fusion.

    Args:
        target: relative to neutral. own, fused: nearness to the classes. All (B, K).
        limit: the result is clamped to [-limit, limit].
    """
    ratio = own / (fused + _EPS)
    label = 0.5 * ratio * target + 0.5 * (target + own - fused)
    return label.clamp(-limit, limit)


def corrected_label(target: Tensor, own: Tensor, fused: Tensor, limit: float) -> Tensor:
    """`released_label` with the scaled target used only where it means something (ours).

    The target is proportional to the nearness only where the fused features lie on the target's
    side; elsewhere the ratio turns signs around, and the shifted target stands alone. Both are
    clamped before the mean, so that a ratio of a tiny number does not outweigh the other.
    """
    shifted = (target + own - fused).clamp(-limit, limit)
    agree = fused * target > 0
    ratio = own / torch.where(agree, fused, torch.ones_like(fused))
    scaled = (ratio * target).clamp(-limit, limit)
    return torch.where(agree, 0.5 * scaled + 0.5 * shifted, shifted)
