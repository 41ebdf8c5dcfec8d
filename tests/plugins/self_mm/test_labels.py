"""The label memory: what is corrected in it, several outputs, its state."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit import DataError, FusionKitError
from fusionkit_plugins.self_mm.labels import (
    FUSION,
    UnimodalLabels,
    corrected_label,
    released_label,
)

CPU = torch.device("cpu")
SIZES = {FUSION: 3, "audio": 2}


def number(value: float) -> Tensor:
    return torch.tensor([[value]], dtype=torch.float64)


def started(targets: Tensor, **options: Any) -> tuple[UnimodalLabels, list[str]]:
    bank, ids = UnimodalLabels(SIZES, **options), [f"s{k}" for k in range(len(targets))]
    bank.start(ids, targets)
    return bank, ids


def features(count: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.randn(count, size, generator=generator).double() for n, size in SIZES.items()}


def run(bank: UnimodalLabels, ids: list[str], epochs: int = 3) -> Tensor:
    for epoch in range(1, epochs + 1):
        bank.start_epoch(epoch)
        bank.update(ids, features(len(ids), epoch))
    return bank.of(ids, CPU)["audio"]


def test_both_rules_agree_where_the_ratio_means_something() -> None:
    for target, own, fused in ((1.0, 0.2, 0.5), (-1.5, -0.3, -0.6), (1.0, -0.2, 0.5)):
        args = (number(target), number(own), number(fused), 3.0)
        assert torch.allclose(corrected_label(*args), released_label(*args), atol=1e-6)


def test_a_fusion_on_the_wrong_side_does_not_turn_the_sign_around() -> None:
    # The fused features lie on the negative side of a positive target, the modality's do not.
    args = (number(2.0), number(0.5), number(-0.1), 3.0)
    assert released_label(*args).item() == -3.0
    assert corrected_label(*args).item() == pytest.approx(2.6)


def test_a_ratio_of_a_tiny_number_is_bounded() -> None:
    args = (number(2.0), number(-0.5), number(1e-6), 3.0)
    assert released_label(*args).item() == -3.0
    assert corrected_label(*args).item() == pytest.approx(0.5 * -3.0 + 0.5 * 1.5, abs=1e-5)


def test_a_neutral_target_is_only_shifted() -> None:
    assert corrected_label(number(0.0), number(0.5), number(0.2), 3.0).item() == pytest.approx(0.3)


def test_labels_start_as_targets_and_move_from_the_second_epoch_on() -> None:
    targets = torch.linspace(-2, 2, 20).double()
    bank, ids = started(targets)
    assert torch.equal(run(bank, ids, epochs=1).squeeze(1), targets)
    moved = run(bank, ids, epochs=3).squeeze(1)
    assert (moved - targets).abs().min() > 0
    assert moved.abs().max() <= 2.0
    assert torch.equal(bank.of(ids, CPU)[FUSION].squeeze(1), targets)


def test_mixed_precision_leaves_the_labels_alone() -> None:
    targets = torch.linspace(-2, 2, 20)
    plain, ids = started(targets)
    mixed, _ = started(targets)
    want = run(plain, ids)
    with torch.autocast("cpu", torch.bfloat16):
        got = run(mixed, ids)
    assert torch.equal(got, want)


@pytest.mark.parametrize("limit", [None, 0.7])
def test_the_range_is_that_of_the_targets_unless_given(limit: float | None) -> None:
    bank, ids = started(torch.linspace(-2, 1.5, 20).double(), limit=limit)
    for epoch in range(1, 60):
        bank.start_epoch(epoch)
        bank.update(ids, features(20, epoch))
    # The momentum forgets the targets, which may lie outside of a range that is given.
    assert bank.of(ids, CPU)["audio"].abs().max() <= (2.0 if limit is None else 0.8)


@pytest.mark.parametrize("released", [True, False])
def test_a_class_without_samples(released: bool) -> None:
    targets = torch.tensor([1.0, 2.0, 0.5]).double()
    bank, ids = started(targets, released=released)
    labels = run(bank, ids).squeeze(1)
    if released:
        assert labels.isnan().all()
    else:
        assert torch.equal(labels, targets)


def test_samples_not_seen_yet_do_not_count() -> None:
    targets = torch.tensor([1.0, 2.0, -1.0, -2.0]).double()
    for released, share in ((False, 1.0), (True, 0.5)):
        bank, ids = started(targets, released=released)
        bank.start_epoch(1)
        bank.update([ids[0], ids[2]], features(2, 0))
        positive, negative = bank.centres("audio")
        assert torch.allclose(positive[0], share * features(2, 0)["audio"][0])
        assert torch.allclose(negative[0], share * features(2, 0)["audio"][1])


@pytest.mark.parametrize("exclude", [True, False])
def test_neutral_labels(exclude: bool) -> None:
    bank, ids = started(torch.tensor([1.0, 0.0, -1.0]).double(), exclude_neutral=exclude)
    bank.start_epoch(1)
    bank.update(ids, features(3, 0))
    x = features(3, 0)["audio"]
    want = x[0] if exclude else x[:2].mean(dim=0)
    assert torch.allclose(bank.centres("audio")[0][0], want)


def test_neutral_shifts_everything() -> None:
    targets = torch.tensor([1.0, -2.0, 0.5, -0.5]).double()
    bank, ids = started(targets)
    other, _ = started(targets + 5, neutral=5.0)
    assert torch.allclose(run(bank, ids), run(other, ids) - 5, atol=1e-12)


def test_outputs_have_labels_of_their_own() -> None:
    targets = torch.tensor([[1.0, -1.0], [-2.0, 0.5], [0.5, 2.0], [-0.5, -2.0]]).double()
    both, ids = started(targets, limit=3.0)
    moved = run(both, ids)
    for output in range(2):
        alone, _ = started(targets[:, output], limit=3.0)
        assert torch.allclose(run(alone, ids)[:, 0], moved[:, output], atol=1e-12)


def test_a_restored_memory_goes_on_as_before() -> None:
    targets = torch.tensor([1.0, -2.0, 0.5, -0.5]).double()
    bank, ids = started(targets)
    run(bank, ids)
    copy, _ = started(targets)
    copy.load_state_dict(bank.state_dict())
    for one in (bank, copy):
        one.start_epoch(4)
        one.update(ids[:2], features(2, 9))
    assert torch.equal(bank.of(ids, CPU)["audio"], copy.of(ids, CPU)["audio"])
    fresh, _ = started(targets)
    fresh.start_epoch(4)
    fresh.update(ids[:2], features(2, 9))
    assert not torch.equal(bank.of(ids, CPU)["audio"], fresh.of(ids, CPU)["audio"])
    smaller, _ = started(targets[:3])
    with pytest.raises(ValueError, match="has shape"):
        smaller.load_state_dict(bank.state_dict())


def test_samples_are_told_apart_by_id() -> None:
    with pytest.raises(DataError, match="two training samples have one id"):
        UnimodalLabels(SIZES).start(["a", "a"], torch.zeros(2))
    bank, _ = started(torch.zeros(2))
    with pytest.raises(FusionKitError, match="'other' is not among the training samples"):
        bank.of(["other"], CPU)
