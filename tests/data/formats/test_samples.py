"""New samples for prediction: the three layouts, ids, preparation and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.data.formats.samples import read_samples
from fusionkit.data.preparation import Preparation
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import DataError

_SPEC = DataSpec({"audio": 2, "text": 3}, "classification", 4)
_LENGTHS = {"audio": np.array([3, 1]), "text": np.array([2, 4])}


def _flat() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return {
        m: generator.standard_normal((n.sum(), _SPEC.modalities[m])) for m, n in _LENGTHS.items()
    }


def _padded(modality: str) -> np.ndarray[Any, Any]:
    flat, lengths = _flat()[modality], _LENGTHS[modality]
    padded = np.full((2, 6, flat.shape[1]), 99.0)
    padded[0, : lengths[0]], padded[1, : lengths[1]] = flat[: lengths[0]], flat[lengths[0] :]
    return padded


def _flat_file(**changed: Any) -> dict[str, Any]:
    arrays = {**_flat(), **{f"{m}_len": n for m, n in _LENGTHS.items()}, **changed}
    return {k: v for k, v in arrays.items() if v is not None}


def _read(
    folder: Path, arrays: dict[str, Any], preparation: Preparation | None = None, **options: Any
) -> SequenceStore:
    np.savez(folder / "new.npz", **arrays)
    return read_samples(folder / "new.npz", _SPEC, preparation or Preparation(), **options)


def test_flat_and_padded_layouts_are_the_same_samples(tmp_path: Path) -> None:
    flat = _read(tmp_path, _flat_file())
    padded = _read(tmp_path, _flat_file(audio=_padded("audio"), text=_padded("text")))
    mixed = _read(tmp_path, _flat_file(text=_padded("text")))
    assert flat.sha256() == padded.sha256() == mixed.sha256()
    assert flat.targets is None
    assert list(flat.ids) == ["new-00000", "new-00001"]
    assert np.array_equal(flat.sequence("text", 1), _flat()["text"][2:].astype(np.float32))


def test_a_single_sample_needs_no_lengths(tmp_path: Path) -> None:
    store = _read(tmp_path, {"audio": np.ones((5, 2)), "text": np.ones((7, 3), np.float16)})
    assert list(store.ids) == ["new"]
    assert store.lengths["audio"].tolist() == [5]
    assert store.lengths["text"].tolist() == [7]


def test_a_list_of_numbers_is_a_modality_of_one_feature(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", pulse=np.arange(5))
    spec = DataSpec({"pulse": 1}, "regression", 1)
    store = read_samples(tmp_path / "new.npz", spec, Preparation())
    assert store.sequence("pulse", 0).tolist() == [[0], [1], [2], [3], [4]]


def test_ids_and_other_arrays(tmp_path: Path) -> None:
    store = _read(tmp_path, _flat_file(id=np.array(["x", "y"]), label=np.arange(2), audio2=1))
    assert list(store.ids) == ["x", "y"]
    assert list(store.features) == ["audio", "text"]


def test_samples_get_the_preparation_of_training(tmp_path: Path) -> None:
    raw = _read(tmp_path, _flat_file())
    preparation = Preparation.fit(raw, deltas=True)
    np.savez(tmp_path / "new.npz", **_flat_file())
    spec = preparation.prepared_spec(_SPEC)
    store = read_samples(tmp_path / "new.npz", spec, preparation)
    assert store.features["audio"].shape[1] == 4
    assert store.sha256() == preparation.apply(raw).sha256()


def _known() -> tuple[DataSpec, Preparation]:
    preparation = Preparation(context={"speaker": ("anna", "bo"), "turn": ("1", "2")})
    return preparation.prepared_spec(_SPEC), preparation


def test_context_is_read_as_training_numbered_it(tmp_path: Path) -> None:
    arrays = _flat_file(speaker=np.array(["bo", "anna"]), turn=np.array([1, 2], np.uint8))
    np.savez(tmp_path / "new.npz", **arrays)
    store = read_samples(tmp_path / "new.npz", *_known())
    assert store.context["speaker"].tolist() == [2, 1]
    assert store.context["turn"].tolist() == [1, 2]
    single: dict[str, Any] = {"audio": np.ones((5, 2)), "text": np.ones((7, 3))}
    np.savez(tmp_path / "new.npz", turn=2, speaker="bo", **single)
    assert read_samples(tmp_path / "new.npz", *_known()).context["speaker"].tolist() == [2]


def test_without_it_the_context_is_unknown(tmp_path: Path) -> None:
    np.savez(tmp_path / "new.npz", **_flat_file(speaker=np.array(["bo", "cy"])))
    with pytest.warns(UserWarning) as caught:
        store = read_samples(tmp_path / "new.npz", *_known())
    assert store.context["speaker"].tolist() == [2, 0]
    assert store.context["turn"].tolist() == [0, 0]
    assert [str(w.message).split(" is ")[0] for w in caught] == [
        f"{tmp_path / 'new.npz'}: context 'speaker' of 1 of 2 samples",
        f"{tmp_path / 'new.npz'}: context 'turn' of 2 of 2 samples",
    ]


@pytest.mark.parametrize("wrong", [np.ones(2), np.arange(3), np.ones((2, 1), int)])
def test_wrong_context_of_samples(tmp_path: Path, wrong: Any) -> None:
    np.savez(tmp_path / "new.npz", **_flat_file(turn=wrong))
    with pytest.raises(DataError, match=r"new\.npz: context 'turn' is .* for 2 samples; give one"):
        read_samples(tmp_path / "new.npz", *_known())


@pytest.mark.parametrize(
    ("arrays", "field", "fix"),
    [
        (
            _flat_file(text=None),
            "modality 'text' is missing; the file has audio, audio_len, text_len",
            "Add 'text' of shape (frames, 3)",
        ),
        (_flat_file(text=np.array(["a"] * 6)), "modality 'text' is <U1", "give numbers"),
        (
            _flat_file(text=np.zeros((6, 4))),
            "modality 'text' has 4 features a frame, 3 are expected",
            "use the features",
        ),
        (
            _flat_file(text=np.zeros((2, 6, 3)), text_len=None),
            "modality 'text' is of shape (2, 6, 3) and has no 'text_len'",
            "give one sample (frames, 3), or the lengths",
        ),
        (_flat_file(text=np.zeros(6)), "modality 'text' is of shape (6,)", "give (frames, 3)"),
        (
            _flat_file(text=_padded("text"), text_len=np.array([2, 7])),
            "'text_len' says 7, but 'text' is padded to 6 frames",
            "give lengths up to 6",
        ),
        (
            _flat_file(text=_padded("text"), text_len=np.array([-2, 6])),
            "'text_len' says -2",
            "give lengths up to 6",
        ),
        (
            _flat_file(text_len=None),
            "'text' has 1 samples, 'audio' has 2",
            "with the lengths 'text_len'",
        ),
        (_flat_file(text_len=np.array([2, 5])), "the lengths of 'text' add up to 7", "write the"),
        (_flat_file(text_len=np.array([0, 6])), "sample 'new-00000' has length 0", "drop it"),
        (_flat_file(text_len=np.array([2.0, 4.0])), "'text_len' is float64", "whole number"),
        (_flat_file(id=np.array(["x"])), "1 ids for 2 samples", "give one a sample"),
        (_flat_file(id=np.array(["x", "x"])), "id 'x' is given to 2 samples", "own id"),
        (
            _flat_file(text=np.full((6, 3), np.nan)),
            "modality 'text', sample 'new-00000', frame 0, feature 0 is nan",
            "--nonfinite zero",
        ),
    ],
)
def test_errors_name_file_field_and_fix(
    tmp_path: Path, arrays: dict[str, Any], field: str, fix: str
) -> None:
    with pytest.raises(DataError) as caught:
        _read(tmp_path, arrays)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'new.npz'}: ")
    assert field in message
    assert fix in message


def test_zeroed_values_are_a_warning(tmp_path: Path) -> None:
    audio = _flat()["audio"]
    audio[0, 0] = np.inf
    with pytest.warns(UserWarning, match=r"new\.npz: 1 NaN or infinite values of 'audio'"):
        store = _read(tmp_path, _flat_file(audio=audio), nonfinite="zero")
    assert store.features["audio"][0, 0] == 0
