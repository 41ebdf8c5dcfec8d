"""The source ``npz``: what it infers, and its splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.preparation import Preparation

from arrays_file import COUNT, SPEECH, arrays, load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _subjects(data: MultimodalDataset) -> dict[str, list[int]]:
    return {
        s: sorted(set(np.asarray(data.split(s).groups).tolist()))
        for s in ("train", "validation", "test")
    }


def test_what_is_inferred(folder: Path) -> None:
    data = load(folder, test_groups=[5, 6])
    assert dict(data.spec.modalities) == {"audio": 3, "depth": 10}
    assert (data.spec.task, data.spec.num_outputs) == ("classification", 3)
    assert data.spec.class_names == ("1", "2", "3")
    assert not data.spec.aligned
    assert data.name == f"npz:{folder / 'my.npz'}"
    assert data.split_rule == (
        "by 'subject': train 1, 2, 3, 4; test 5, 6; validation 0.15 of the training samples, drawn "
        "evenly over the classes (split_seed 0)"
    )
    assert [len(s) for s in (data.train, data.validation, data.test)] == [14, 2, 8]
    assert data.notes == [SPEECH]


def test_values_reach_the_splits_unchanged(folder: Path) -> None:
    content = arrays(id=np.array([f"clip{i}" for i in range(COUNT)]))
    data = load(folder, content, test_groups=[2], normalise=False)
    assert list(data.test.ids) == ["clip4", "clip5", "clip6", "clip7"]
    start = content["depth_len"][:5].sum()
    stop = start + content["depth_len"][5]
    expected = content["depth"][start:stop].reshape(-1, 10)
    assert np.array_equal(data.test.sequence("depth", 1), expected)
    assert data.test.targets is not None
    assert np.array_equal(data.test.targets + 1, content["action"][4:8])


def test_groups_are_kept_apart(folder: Path) -> None:
    data = load(folder, train_groups=[1, 3], validation_groups=[2, 5], test_groups=[6, 4])
    assert _subjects(data) == {"train": [1, 3], "validation": [2, 5], "test": [4, 6]}


def test_normalisation_uses_training_samples_only(folder: Path) -> None:
    options: dict[str, Any] = {
        "train_groups": [1, 3],
        "validation_groups": [2],
        "test_groups": [4, 5, 6],
    }
    raw = load(folder, normalise=False, **options)
    data = load(folder, **options)
    assert data.preparation.to_json() == Preparation.fit(raw.train).to_json()
    content = arrays()
    content["audio"][content["audio_len"][:12].sum() :] += 50  # subjects 4 to 6
    moved = load(folder, content, **options)
    assert moved.preparation.to_json() == data.preparation.to_json()


def test_deltas(folder: Path) -> None:
    assert dict(load(folder, deltas=True, test_groups=[1]).spec.modalities) == {
        "audio": 6,
        "depth": 20,
    }


def test_one_vector_a_sample_is_a_modality_if_named(folder: Path) -> None:
    data = load(folder, modalities=["face", "audio"], test_groups=[1])
    assert list(data.spec.modalities.items()) == [("face", 4), ("audio", 3)]
    assert set(data.train.lengths["face"].tolist()) == {1}


def test_regression_and_multilabel(folder: Path) -> None:
    data = load(folder, target="mood", test_groups=[1])
    assert (data.spec.task, data.spec.num_outputs, data.spec.class_names) == ("regression", 1, ())
    assert "drawn (split_seed 0)" in data.split_rule
    tags = np.arange(COUNT * 2).reshape(COUNT, 2) % 3 % 2
    data = load(folder, arrays(label=tags), test_groups=[1])
    assert (data.spec.task, data.spec.num_outputs) == ("multilabel", 2)
    assert data.train.targets is not None and data.train.targets.shape[1] == 2


def test_aligned_when_all_lengths_agree(folder: Path) -> None:
    lengths = np.full(COUNT, 2)
    content = arrays(
        audio=np.ones((2 * COUNT, 3)) * np.arange(3),
        audio_len=lengths,
        depth=np.zeros((2 * COUNT, 5)),
        depth_len=lengths,
    )
    assert load(folder, content, test_groups=[1]).spec.aligned


def test_split_column_is_found_or_named(folder: Path) -> None:
    words = np.array(["train"] * 14 + ["valid"] * 4 + ["test"] * 6)
    data = load(folder, arrays(split=words))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [14, 4, 6]
    assert data.split_rule == "as 'split' says"
    assert data.notes == [SPEECH, "the test split shares 1 groups with training, e.g. '5'"]
    named = load(folder, arrays(fold=words), split="fold")
    assert [len(s) for s in (named.train, named.validation, named.test)] == [14, 4, 6]
    grouped = load(folder, arrays(split=words), test_groups=[1])
    assert grouped.split_rule.startswith("by 'subject'")


def test_split_column_without_validation(folder: Path) -> None:
    words = np.array(["train"] * 18 + ["test"] * 6)
    data = load(folder, arrays(split=words), validation_fraction=0.34)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [12, 6, 6]
    assert data.validation.targets is not None
    assert np.bincount(data.validation.targets).tolist() == [2, 2, 2]


def test_without_groups_and_split_a_part_is_drawn(folder: Path) -> None:
    content = arrays(subject=None)
    data = load(folder, content, test_fraction=0.25)
    assert len(data.test) == 6
    assert data.test.targets is not None
    assert np.bincount(data.test.targets).tolist() == [2, 2, 2]
    ids = [i for s in (data.train, data.validation, data.test) for i in s.ids]
    assert sorted(ids) == [f"{i:05d}" for i in range(COUNT)]
    assert data.split_rule.startswith("0.25 of the samples drawn for the test; validation 0.15")
    assert load(folder, content, test_fraction=0.25).sha256 == data.sha256
    assert load(folder, content, test_fraction=0.25, split_seed=1).sha256 != data.sha256


def test_classes_that_training_lacks_are_noted(folder: Path) -> None:
    data = load(folder, arrays(action=np.arange(COUNT) // 4), test_groups=[6])
    assert data.spec.num_outputs == 6
    assert data.notes == [SPEECH, "no training sample has the class '5'"]


def test_arrays_that_look_like_modalities_are_noted(folder: Path) -> None:
    content = arrays(audio_len=None)
    data = load(folder, content, test_groups=[1])
    assert data.notes == [
        "'audio' is not used: it has no lengths 'audio_len'",
        SPEECH,
    ]
    assert not load(folder, content, test_groups=[1], modalities=["depth"]).notes
