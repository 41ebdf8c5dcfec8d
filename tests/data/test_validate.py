"""Every unusable store is refused with a message that names file, field and fix."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.data.validate import validate_store
from fusionkit.errors import DataError

_CLASSES = DataSpec({"audio": 2, "text": 3}, "classification", 4)
_VALUES = DataSpec({"audio": 2, "text": 3}, "regression", 1)
_LABELS = DataSpec({"audio": 2, "text": 3}, "multilabel", 2)


def _store() -> SequenceStore:
    generator = np.random.default_rng(0)
    lengths = {"audio": np.array([3, 1, 4]), "text": np.array([2, 5, 1])}
    return SequenceStore(
        features={
            "audio": generator.standard_normal((8, 2)).astype(np.float32),
            "text": generator.standard_normal((8, 3)).astype(np.float32),
        },
        lengths=lengths,
        targets=np.array([0, 3, 1]),
        ids=["a", "b", "c"],
        groups=np.array([1, 1, 2]),
    )


def _check(store: SequenceStore, spec: DataSpec = _CLASSES, nonfinite: Any = "error") -> Any:
    return validate_store(store, spec, where="my.npz", nonfinite=nonfinite)


def test_a_good_store_passes_unchanged() -> None:
    store, notes = _check(_store())
    assert notes == []
    assert store.sha256() == _store().sha256()
    _check(replace(_store(), targets=None, groups=None))
    _check(replace(_store(), targets=np.array([0.5, -1, 2], np.float32)), _VALUES)
    _check(replace(_store(), targets=np.array([[0.5], [-1], [2]], np.float32)), _VALUES)
    _check(replace(_store(), targets=np.array([[0, 1], [1, 1], [0, 0]], np.float32)), _LABELS)


def _features(store: SequenceStore, **changed: Any) -> SequenceStore:
    return replace(store, features={**store.features, **changed})


def _lengths(store: SequenceStore, **changed: Any) -> SequenceStore:
    return replace(store, lengths={**store.lengths, **changed})


@pytest.mark.parametrize(
    ("store", "spec", "field", "fix"),
    [
        (_store().select([]), _CLASSES, "no samples", "check the file"),
        (replace(_store(), ids=["a", "b", "a"]), _CLASSES, "id 'a' is given to 2", "own id"),
        (
            replace(_store(), features={"audio": _store().features["audio"]}),
            _CLASSES,
            "modality 'text' is missing; the data have audio",
            "are needed",
        ),
        (
            _features(_store(), text=np.zeros((8, 4), np.float32)),
            _CLASSES,
            "modality 'text' has 4 features a frame, 3 are expected",
            "use the features",
        ),
        (
            _features(_store(), text=np.zeros((8, 3))),
            _CLASSES,
            "modality 'text' is a 2-d array of float64",
            "give a float32 array",
        ),
        (
            _lengths(_store(), text=np.array([2, 5])),
            _CLASSES,
            "'text' has lengths of shape (2,) for 3 samples",
            "one length a sample",
        ),
        (
            _lengths(_store(), text=np.array([2, 5, 2])),
            _CLASSES,
            "the lengths of 'text' add up to 9, but there are 8 frames",
            "write the length of every sample",
        ),
        (
            _lengths(_store(), text=np.array([3, 0, 5])),
            _CLASSES,
            "sample 'b' has length 0 in 'text' (1 such samples)",
            "drop it",
        ),
        (
            _lengths(_store(), text=np.array([9, 5, -6])),
            _CLASSES,
            "sample 'c' has length -6 in 'text'",
            "lengths are whole numbers",
        ),
        (
            _store(),
            replace(_CLASSES, aligned=True),
            "sample 'a' has 3 frames of 'audio' and 2 of 'text'",
            "same frames",
        ),
        (replace(_store(), groups=np.array([1])), _CLASSES, "1 groups for 3", "one a sample"),
        (
            replace(_store(), targets=np.array([0, 1])),
            _CLASSES,
            "2 targets for 3 samples",
            "give one a sample",
        ),
        (
            replace(_store(), targets=np.array([0, 4, 1])),
            _CLASSES,
            "the target of sample 'b' is 4, not a class in 0..3",
            "correct it or drop the sample",
        ),
        (
            replace(_store(), targets=np.array([0, 1, -1])),
            _CLASSES,
            "the target of sample 'c' is -1",
            "correct it",
        ),
        (
            replace(_store(), targets=np.array([0.0, 1, 2], np.float32)),
            _CLASSES,
            "class labels are 1-d of float32",
            "give (N,) int64",
        ),
        (
            replace(_store(), targets=np.array([0, np.nan, 2], np.float32)),
            _VALUES,
            "the target of sample 'b' is nan, not a finite number",
            "correct it",
        ),
        (
            replace(_store(), targets=np.zeros((3, 2), np.float32)),
            _VALUES,
            "targets are float32 of shape (3, 2)",
            "give float32 of shape (3,)",
        ),
        (
            replace(_store(), targets=np.array([[0, 1], [1, 0.5], [0, 0]], np.float32)),
            _LABELS,
            "the target of sample 'b' is [1.  0.5], not 0 or 1",
            "correct it",
        ),
    ],
)
def test_unusable_stores(store: SequenceStore, spec: DataSpec, field: str, fix: str) -> None:
    with pytest.raises(DataError) as caught:
        _check(store, spec)
    message = str(caught.value)
    assert message.startswith("my.npz: ")
    assert field in message
    assert fix in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nonfinite_features_are_located(value: float) -> None:
    store = _store()
    store.features["audio"][6, 1] = value
    with pytest.raises(DataError) as caught:
        _check(store)
    message = str(caught.value)
    assert message.startswith(
        f"my.npz: modality 'audio', sample 'c', frame 2, feature 1 is {value}"
    )
    assert "1 such values in 1 samples" in message
    assert "--nonfinite zero" in message


def test_nonfinite_features_can_be_zeroed_and_are_counted() -> None:
    store = _store()
    store.features["audio"][6, 1] = np.nan
    store.features["audio"][7] = np.inf
    store.features["audio"][0, 0] = -np.inf
    repaired, notes = _check(store, nonfinite="zero")
    assert notes == ["my.npz: 4 NaN or infinite values of 'audio' in 2 samples were set to 0"]
    expected = _store().features["audio"]
    expected[6, 1] = expected[0, 0] = 0
    expected[7] = 0
    assert np.array_equal(repaired.features["audio"], expected)
    assert np.isnan(store.features["audio"][6, 1]), "the given store is not changed"
