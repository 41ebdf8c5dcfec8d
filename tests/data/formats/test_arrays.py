"""The source ``npz``: what it infers, its splits, and its errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.formats.arrays import NpzConfig, load_npz
from fusionkit.data.preparation import Preparation
from fusionkit.errors import ConfigError, DataError, FusionKitError

_COUNT = 24


def _arrays(**changed: Any) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    lengths = {m: generator.integers(1, 7, _COUNT) for m in ("audio", "depth")}
    arrays = {
        "audio": generator.normal(4, 2, (lengths["audio"].sum(), 3)),
        "audio_len": lengths["audio"],
        "depth": generator.integers(0, 255, (lengths["depth"].sum(), 2, 5)).astype(np.uint8),
        "depth_len": lengths["depth"].astype(np.int32),
        "face": generator.standard_normal((_COUNT, 4)),
        "action": np.arange(_COUNT) % 3 + 1,
        "subject": np.arange(_COUNT) // 4 + 1,
        "mood": generator.standard_normal(_COUNT),
        "speech": np.array(["hi"] * _COUNT),
        "speech_len": np.full(_COUNT, 2),
    }
    arrays.update(changed)
    return {k: v for k, v in arrays.items() if v is not None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def _load(folder: Path, arrays: dict[str, Any] | None = None, **options: Any) -> MultimodalDataset:
    np.savez(folder / "my.npz", **(_arrays() if arrays is None else arrays))
    return load_npz(NpzConfig(path=folder / "my.npz", **options))


def _subjects(data: MultimodalDataset) -> dict[str, list[int]]:
    return {
        s: sorted(set(np.asarray(data.split(s).groups).tolist()))
        for s in ("train", "validation", "test")
    }


def test_what_is_inferred(folder: Path) -> None:
    data = _load(folder, test_groups=[5, 6])
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
    assert data.notes == []


def test_values_reach_the_splits_unchanged(folder: Path) -> None:
    arrays = _arrays(id=np.array([f"clip{i}" for i in range(_COUNT)]))
    data = _load(folder, arrays, test_groups=[2], normalise=False)
    assert list(data.test.ids) == ["clip4", "clip5", "clip6", "clip7"]
    start = arrays["depth_len"][:5].sum()
    stop = start + arrays["depth_len"][5]
    expected = arrays["depth"][start:stop].reshape(-1, 10)
    assert np.array_equal(data.test.sequence("depth", 1), expected)
    assert data.test.targets is not None
    assert np.array_equal(data.test.targets + 1, arrays["action"][4:8])


def test_groups_are_kept_apart(folder: Path) -> None:
    data = _load(folder, train_groups=[1, 3], validation_groups=[2, 5], test_groups=[6, 4])
    assert _subjects(data) == {"train": [1, 3], "validation": [2, 5], "test": [4, 6]}


def test_normalisation_uses_training_samples_only(folder: Path) -> None:
    options: dict[str, Any] = {
        "train_groups": [1, 3],
        "validation_groups": [2],
        "test_groups": [4, 5, 6],
    }
    raw = _load(folder, normalise=False, **options)
    data = _load(folder, **options)
    assert data.preparation.to_json() == Preparation.fit(raw.train).to_json()
    arrays = _arrays()
    arrays["audio"][arrays["audio_len"][:12].sum() :] += 50  # subjects 4 to 6
    moved = _load(folder, arrays, **options)
    assert moved.preparation.to_json() == data.preparation.to_json()


def test_deltas(folder: Path) -> None:
    assert dict(_load(folder, deltas=True, test_groups=[1]).spec.modalities) == {
        "audio": 6,
        "depth": 20,
    }


def test_one_vector_a_sample_is_a_modality_if_named(folder: Path) -> None:
    data = _load(folder, modalities=["face", "audio"], test_groups=[1])
    assert list(data.spec.modalities.items()) == [("face", 4), ("audio", 3)]
    assert set(data.train.lengths["face"].tolist()) == {1}


def test_regression_and_multilabel(folder: Path) -> None:
    data = _load(folder, target="mood", test_groups=[1])
    assert (data.spec.task, data.spec.num_outputs, data.spec.class_names) == ("regression", 1, ())
    assert "drawn (split_seed 0)" in data.split_rule
    tags = np.arange(_COUNT * 2).reshape(_COUNT, 2) % 3 % 2
    data = _load(folder, _arrays(label=tags), test_groups=[1])
    assert (data.spec.task, data.spec.num_outputs) == ("multilabel", 2)
    assert data.train.targets is not None and data.train.targets.shape[1] == 2


def test_aligned_when_all_lengths_agree(folder: Path) -> None:
    lengths = np.full(_COUNT, 2)
    arrays = _arrays(
        audio=np.ones((2 * _COUNT, 3)) * np.arange(3),
        audio_len=lengths,
        depth=np.zeros((2 * _COUNT, 5)),
        depth_len=lengths,
    )
    assert _load(folder, arrays, test_groups=[1]).spec.aligned


def test_split_column_is_found_or_named(folder: Path) -> None:
    words = np.array(["train"] * 14 + ["valid"] * 4 + ["test"] * 6)
    data = _load(folder, _arrays(split=words))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [14, 4, 6]
    assert data.split_rule == "as 'split' says"
    assert data.notes == ["the test split shares 1 groups with training, e.g. 5"]
    named = _load(folder, _arrays(fold=words), split="fold")
    assert [len(s) for s in (named.train, named.validation, named.test)] == [14, 4, 6]
    grouped = _load(folder, _arrays(split=words), test_groups=[1])
    assert grouped.split_rule.startswith("by 'subject'")


def test_split_column_without_validation(folder: Path) -> None:
    words = np.array(["train"] * 18 + ["test"] * 6)
    data = _load(folder, _arrays(split=words), validation_fraction=0.34)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [12, 6, 6]
    assert data.validation.targets is not None
    assert np.bincount(data.validation.targets).tolist() == [2, 2, 2]


def test_without_groups_and_split_a_part_is_drawn(folder: Path) -> None:
    arrays = _arrays(subject=None)
    data = _load(folder, arrays, test_fraction=0.25)
    assert len(data.test) == 6
    assert data.test.targets is not None
    assert np.bincount(data.test.targets).tolist() == [2, 2, 2]
    ids = [i for s in (data.train, data.validation, data.test) for i in s.ids]
    assert sorted(ids) == [f"{i:05d}" for i in range(_COUNT)]
    assert data.split_rule.startswith("0.25 of the samples drawn for the test; validation 0.15")
    assert _load(folder, arrays, test_fraction=0.25).sha256 == data.sha256
    assert _load(folder, arrays, test_fraction=0.25, split_seed=1).sha256 != data.sha256


def test_classes_that_training_lacks_are_noted(folder: Path) -> None:
    data = _load(folder, _arrays(action=np.arange(_COUNT) // 4), test_groups=[6])
    assert data.spec.num_outputs == 6
    assert data.notes == ["no training sample has the class '5'"]


def _broken(name: str, edit: Any) -> dict[str, Any]:
    arrays = _arrays()
    arrays[name] = edit(arrays[name])
    return arrays


def _with(array: Any, value: float) -> Any:
    array = array.astype(float)
    array[7, 1] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "options", "kind", "field", "fix"),
    [
        (
            _arrays(action=None),
            {},
            ConfigError,
            "target: ",
            "choose one of its arrays with a row a sample: face, subject, mood",
        ),
        (_arrays(), {"target": "valence"}, ConfigError, "target: ", "has no array 'valence', only"),
        (
            _arrays(action=np.arange(3)),
            {},
            ConfigError,
            "target: 'action'",
            "has 3 rows for 24 samples; choose another array",
        ),
        (
            _arrays(),
            {"target": "mood", "task": "classification"},
            ConfigError,
            "target 'mood'",
            "choose another target",
        ),
        (_arrays(), {}, ConfigError, "train_groups and test_groups are both", "1, 2, 3, 4, 5, 6"),
        (
            _arrays(),
            {"train_groups": [1, 2], "test_groups": [2, 3]},
            ConfigError,
            "test_groups: group '2' is in train_groups",
            "give a group to one split",
        ),
        (_arrays(), {"test_groups": [9]}, ConfigError, "test_groups: '9'", "known: 1, 2"),
        (_arrays(), {"group": "person"}, ConfigError, "group: ", "no array 'person'"),
        (
            _arrays(subject=None),
            {"test_groups": [1]},
            ConfigError,
            "group: ",
            "name the array that the lists of groups refer to",
        ),
        (
            _arrays(fold=np.array(["train"] * _COUNT)),
            {"split": "fold", "test_groups": [1]},
            ConfigError,
            "split: ",
            "either split or lists",
        ),
        (
            _arrays(),
            {"modalities": ["speech"]},
            ConfigError,
            "modalities: 'speech' is no numeric array",
            "it has audio",
        ),
        (
            _arrays(),
            {"modalities": ["audio", "audio"]},
            ConfigError,
            "modalities: ",
            "each once; those with lengths are audio, depth",
        ),
        (
            {"audio": np.zeros((3, 2)), "y": np.arange(3)},
            {},
            ConfigError,
            "modalities: ",
            "an array X needs the lengths X_len",
        ),
        (
            _broken("depth_len", lambda n: n[:-1]),
            {"test_groups": [1]},
            DataError,
            "'depth' has 23 samples, 'audio' has 24",
            "lengths in 'depth_len'",
        ),
        (
            _broken("audio", lambda x: x[:-1]),
            {"test_groups": [1]},
            DataError,
            "the lengths of 'audio' add up to",
            "write the length of every sample",
        ),
        (
            _broken("audio", lambda x: _with(x, np.nan)),
            {"test_groups": [1]},
            DataError,
            "modality 'audio', sample '0000",
            "--nonfinite zero",
        ),
        (
            _broken("audio", lambda x: _with(x, 1e300)),
            {"test_groups": [1]},
            DataError,
            "feature 1 is inf",
            "--nonfinite zero",
        ),
        (
            _broken("mood", lambda x: np.where(x > 0, np.nan, x)),
            {"test_groups": [1], "target": "mood"},
            DataError,
            "is nan, not a finite number",
            "drop the sample",
        ),
        (
            _arrays(id=np.array(["same"] * _COUNT)),
            {"test_groups": [1]},
            DataError,
            "id 'same' is given to 24 samples",
            "own id",
        ),
        (
            _arrays(),
            {"test_groups": [1], "validation_fraction": 0.01},
            DataError,
            "the validation split has no samples",
            "change the split options",
        ),
    ],
)
def test_errors_name_file_field_and_fix(
    folder: Path,
    arrays: dict[str, Any],
    options: dict[str, Any],
    kind: type[FusionKitError],
    field: str,
    fix: str,
) -> None:
    with pytest.raises(kind) as caught:
        _load(folder, arrays, **options)
    message = str(caught.value)
    assert field in message
    assert fix in message
    names_file = "my.npz" in message
    assert names_file or message.startswith(("split: ", "test_groups: group"))


def test_nonfinite_values_can_be_zeroed(folder: Path) -> None:
    arrays = _broken("audio", lambda x: _with(x, np.nan))
    data = _load(folder, arrays, test_groups=[1], nonfinite="zero")
    assert data.notes == [
        f"{folder / 'my.npz'}: 1 NaN or infinite values of 'audio' in 1 samples were set to 0"
    ]
