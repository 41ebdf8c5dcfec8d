"""MMIM's entropy: groups of samples, its memory of batches, and when it begins."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fusionkit import DataSpec
from fusionkit.testing import make_batch
from fusionkit_plugins.mmim.config import MMIMConfig
from fusionkit_plugins.mmim.entropy import EntropyMemory, label_groups, mixture_entropy
from fusionkit_plugins.mmim.model import MMIM
from fusionkit_plugins.mmim.objective import entropy

SPEC = DataSpec({"one": 3, "two": 5, "three": 4}, "regression", 1)


def build(**options: Any) -> MMIM:
    torch.manual_seed(0)
    return MMIM(MMIMConfig(**{"hidden_size": 6, "encoder_size": 8, **options}), SPEC)


def batch_of(rows: int = 12, seed: int = 0) -> Any:
    return make_batch(SPEC, [2 + k % 4 for k in range(rows)], seed=seed)


def test_groups_of_every_task() -> None:
    values = torch.tensor([-1.0, 0.0, 2.0, 0.5])
    above, below = label_groups(SPEC, values[:, None])
    assert above.tolist() == [False, False, True, True] and below.tolist() == [True] + [False] * 3
    above, below = label_groups(SPEC, values, split_at=0.5)
    assert above.sum() == 1 and below.sum() == 2
    several = DataSpec({"a": 1, "b": 1}, "regression", 2)
    assert label_groups(several, torch.stack([values, -values], dim=1))[0].sum() == 2
    classes = DataSpec({"a": 1, "b": 1}, "classification", 3)
    masks = label_groups(classes, torch.tensor([2, 0, 2]))
    assert [mask.tolist() for mask in masks] == [
        [False, True, False],
        [False] * 3,
        [True, False, True],
    ]
    labels = DataSpec({"a": 1, "b": 1}, "multilabel", 3)
    (mask,) = label_groups(labels, torch.zeros(2, 3))
    assert mask.all() and len(mask) == 2


def test_the_entropy_is_that_of_gaussians() -> None:
    torch.manual_seed(0)
    scales = torch.tensor([0.5, 2.0, 1.5], dtype=torch.float64)
    rows = torch.randn(200_000, 3, dtype=torch.float64) * scales
    expected = scales.log().sum()
    assert mixture_entropy([rows], guarded=True).item() == pytest.approx(expected.item(), abs=0.01)
    both = mixture_entropy([rows, rows * 2], guarded=False).item()
    assert both == pytest.approx(expected.item() + 1.5 * torch.tensor(2.0).log().item(), abs=0.01)


def test_groups_that_are_too_small_count_nothing() -> None:
    torch.manual_seed(0)
    enough, few = torch.randn(9, 3), torch.randn(3, 3)
    guarded = mixture_entropy([enough, few], guarded=True)
    assert torch.equal(guarded, mixture_entropy([enough], guarded=True) / 2)
    released = mixture_entropy([enough, few[:1]], guarded=False)
    assert not released.isfinite()
    assert mixture_entropy([few[:0], few], guarded=True) == 0


def test_vectors_that_are_all_alike_have_a_finite_entropy_and_gradient() -> None:
    rows = torch.ones(9, 3, requires_grad=True)
    found = mixture_entropy([rows], guarded=True)
    found.backward()
    assert found.isfinite() and rows.grad is not None and rows.grad.isfinite().all()


def test_entropy_in_bfloat16_is_computed_in_single() -> None:
    rows = torch.randn(9, 3).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = mixture_entropy([rows], guarded=True)
    assert found == mixture_entropy([rows.float()], guarded=True)


def test_the_memory_holds_the_last_batches() -> None:
    memory = EntropyMemory(2)
    batches = [{"pair": [torch.full((2, 1), float(k)), torch.zeros(0, 1)]} for k in range(3)]
    for k, rows in enumerate(batches):
        assert memory.full == (k >= 2)
        memory.add(rows)
    assert memory.seen == 3
    first, second = memory.extended("pair", [torch.full((1, 1), 9.0), torch.ones(1, 1)])
    assert first.flatten().tolist() == [1, 1, 2, 2, 9] and len(second) == 1
    assert memory.state_dict() == {}
    memory.start_epoch(2)
    assert not memory.full and memory.seen == 0


@pytest.mark.parametrize(("kind", "first_value"), [("corrected", 1), ("released", 2)])
def test_when_the_entropy_begins(kind: str, first_value: int) -> None:
    model = build(entropy=kind)
    batch = batch_of()
    vectors = model.encode(batch)
    values = [entropy(model, vectors, batch.targets).item() for _ in range(4)]
    assert [value != 0 for value in values] == [k >= first_value for k in range(4)]


def test_the_memory_gets_no_gradient() -> None:
    model = build()
    early, late = batch_of(seed=0), batch_of(seed=1)
    early.features["two"].requires_grad_()
    late.features["two"].requires_grad_()
    entropy(model, model.encode(early), early.targets)
    entropy(model, model.encode(late), late.targets).backward()
    assert early.features["two"].grad is None
    assert late.features["two"].grad is not None and late.features["two"].grad.any()
