"""``data.context``: what a file tells of each sample as a whole, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.formats.samples import read_samples, write_samples
from fusionkit.errors import ConfigError, DataError, FusionKitError

from arrays_file import COUNT, arrays, load

NAMES: list[Split] = ["train", "validation", "test"]
PARTS = np.array(["train"] * 14 + ["valid"] * 4 + ["test"] * 6)
SPEAKER = np.array(
    ["b", "", "a", "c"] * 3 + ["a", "a", "b", "d", "", "a", "d", "e", "a"] + ["b"] * 3
)
TURN = np.array([9, 10, 2, 33] * 6)


def _content(**changed: Any) -> dict[str, Any]:
    return arrays(**{"split": PARTS, "speaker": SPEAKER, "turn": TURN, **changed})


def _indices(data: MultimodalDataset, name: str) -> list[int]:
    return [int(k) for split in NAMES for k in data.split(split).context[name].tolist()]


def test_values_become_indices_of_the_training_values(tmp_path: Path) -> None:
    data = load(tmp_path, _content(), context=["speaker", "turn"])
    assert dict(data.preparation.context) == {
        "speaker": ("a", "b", "c"),
        "turn": ("2", "9", "10", "33"),
    }
    assert dict(data.spec.context) == {"speaker": 4, "turn": 5}
    index = {"a": 1, "b": 2, "c": 3}
    assert _indices(data, "speaker") == [index.get(value, 0) for value in SPEAKER.tolist()]
    assert _indices(data, "turn") == [2, 3, 1, 4] * 6
    assert data.train.context["turn"].dtype == np.int64


def test_what_is_unknown_is_noted(tmp_path: Path) -> None:
    data = load(tmp_path, _content(), context=("speaker", "turn"))
    rest = "samples is unknown: no value, or one that no training sample has"
    assert [note for note in data.notes if "context" in note] == [
        f"train data: context 'speaker' of 3 of 14 {rest}",
        f"validation data: context 'speaker' of 2 of 4 {rest}",
        f"test data: context 'speaker' of 2 of 6 {rest}",
    ]


def test_the_vocabulary_does_not_see_other_splits(tmp_path: Path) -> None:
    changed = SPEAKER.copy()
    changed[PARTS != "train"] = "z"
    data = load(tmp_path, _content(speaker=changed), context=["speaker"], normalise=False)
    assert data.preparation.context["speaker"] == ("a", "b", "c")
    assert data.spec.context["speaker"] == 4
    assert not data.test.context["speaker"].astype(bool).any()


def test_a_context_is_no_group_unless_asked_for(tmp_path: Path) -> None:
    content = {name: array for name, array in arrays().items() if name != "subject"}
    content["speaker"] = SPEAKER
    data = load(tmp_path, content, context=["speaker"])
    assert data.train.groups is None
    with pytest.raises(ConfigError, match="train_groups and test_groups are both missing"):
        load(tmp_path, content)


def test_a_group_can_be_a_context(tmp_path: Path) -> None:
    data = load(tmp_path, arrays(), context=["subject"], train_groups=[3, 1, 6], test_groups=[2])
    assert data.preparation.context["subject"] == ("1", "3", "6")
    assert not data.test.context["subject"].astype(bool).any()
    unknown = "test data: context 'subject' of 4 of 4 samples is unknown"
    assert any(note.startswith(unknown) for note in data.notes)


def test_the_hash_says_so_and_stays_without_a_context(tmp_path: Path) -> None:
    plain = load(tmp_path, _content())
    other = SPEAKER.copy()
    other[0] = "a"
    hashes = [
        load(tmp_path, _content(speaker=speaker), context=names).sha256
        for speaker, names in ((SPEAKER, ["speaker"]), (other, ["speaker"]), (SPEAKER, ["turn"]))
    ]
    assert len({plain.sha256, *hashes}) == 4
    assert load(tmp_path, _content(speaker=other)).sha256 == plain.sha256
    assert plain.spec.context == {} and plain.train.context == {}


@pytest.mark.parametrize("deltas", [False, True])
def test_written_samples_give_the_same_indices(tmp_path: Path, deltas: bool) -> None:
    data = load(tmp_path, _content(), context=["speaker", "turn"], deltas=deltas)
    write_samples(tmp_path / "some.npz", data.preparation.invert(data.test))
    with np.load(tmp_path / "some.npz") as file:
        known = [value if value in ("a", "b", "c") else "" for value in SPEAKER[18:].tolist()]
        assert file["speaker"].tolist() == known
        assert file["turn"].tolist() == [str(value) for value in TURN[18:].tolist()]
    with pytest.warns(UserWarning, match=r"some\.npz: context 'speaker' of 2 of 6 samples"):
        again = read_samples(tmp_path / "some.npz", data.spec, data.preparation)
    for name in ("speaker", "turn"):
        assert again.context[name].tolist() == data.test.context[name].tolist()
        assert again.context[name].dtype == np.int64


@pytest.mark.parametrize(
    ("content", "context", "kind", "field", "fix"),
    [
        (_content(), ["speakr"], ConfigError, "has no array 'speakr'", "did you mean 'speaker'?"),
        (_content(), ["action"], ConfigError, "'action' of", "is the target or its copy"),
        (
            _content(copy=arrays()["action"].astype(np.int16)),
            ["turn", "copy"],
            ConfigError,
            "'copy' of",
            "leave it out",
        ),
        (
            _content(copy=arrays()["action"].astype(str)),
            ["copy"],
            ConfigError,
            "'copy' of",
            "is the target or its copy",
        ),
        (_content(), ["audio"], ConfigError, "'audio' of", "has another meaning; name an array"),
        (_content(), ["audio_len"], ConfigError, "'audio_len' of", "has another meaning"),
        (_content(id=np.arange(COUNT)), ["id"], ConfigError, "'id' of", "has another meaning"),
        (_content(), ["turn", "turn"], ConfigError, "'turn' of", "name each array once"),
        (_content(), ["mood"], DataError, "context 'mood' is float64", "whole number or text"),
        (
            _content(turn=np.arange(5)),
            ["turn"],
            DataError,
            "context 'turn' is int64 of shape (5,) for 24 samples",
            "give one",
        ),
        (
            _content(turn=np.ones((COUNT, 1), int)),
            ["turn"],
            DataError,
            "of shape (24, 1) for 24 samples",
            "give one",
        ),
        (_content(turn=np.array(3)), ["turn"], DataError, "of shape () for 24", "give one"),
        (_content(turn=TURN > 5), ["turn"], DataError, "context 'turn' is bool", "whole number"),
    ],
)
def test_errors_name_file_field_and_fix(
    tmp_path: Path,
    content: dict[str, Any],
    context: list[str],
    kind: type[FusionKitError],
    field: str,
    fix: str,
) -> None:
    with pytest.raises(kind) as caught:
        load(tmp_path, content, context=context)
    message = str(caught.value)
    assert "my.npz" in message and "\n" not in message
    assert "context" in message
    assert field in message
    assert fix in message
