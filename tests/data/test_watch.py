"""The smartwatch data: facts of the file, splits by subject, and the error without seglearn."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusionkit.data import watch
from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.preparation import Preparation
from fusionkit.data.watch import WatchConfig, load_watch
from fusionkit.errors import DataError

needs_seglearn = pytest.mark.skipif(
    importlib.util.find_spec("seglearn") is None,
    reason="seglearn is missing: install fusionkit-torch[demo]",
)


@pytest.fixture(scope="module")
def raw() -> MultimodalDataset:
    return load_watch(WatchConfig(normalise=False))


@needs_seglearn
def test_facts(raw: MultimodalDataset) -> None:
    spec = raw.spec
    assert dict(spec.modalities) == {"accelerometer": 3, "gyroscope": 3}
    assert spec.class_names == ("PEN", "ABD", "FEL", "IR", "ER", "TRAP", "ROW")
    assert (spec.task, spec.num_outputs, spec.aligned) == ("classification", 7, True)
    parts = [raw.train, raw.validation, raw.test]
    assert [len(p) for p in parts] == [1680, 560, 560]
    lengths = np.concatenate([p.lengths["gyroscope"] for p in parts])
    assert (lengths.min(), lengths.max()) == (47, 130)
    ids = [i for p in parts for i in p.ids]
    assert len(set(ids)) == 2800
    assert {i[4:9] for i in ids} == {f"r{r:04d}" for r in range(140)}
    assert {i[10:] for i in ids} == {f"p{p:02d}" for p in range(20)}
    assert raw.notes == []
    assert "BSD" in raw.source and "1802.01489" in raw.source


@needs_seglearn
def test_first_frames_and_labels_are_those_of_the_file(raw: MultimodalDataset) -> None:
    part = raw.train.ids.index("s07-r0000-p00")
    first = np.array([-1.083608, -0.018609, -0.02726], np.float32)
    assert np.array_equal(raw.train.sequence("accelerometer", part)[0], first)
    turn = np.array([0.41141, -1.603097, -2.488642], np.float32)
    assert np.array_equal(raw.train.sequence("gyroscope", part)[0], turn)
    assert raw.train.targets is not None
    counts = np.bincount(raw.train.targets)
    assert counts.tolist() == [240] * 7


@needs_seglearn
@pytest.mark.parametrize("fold", range(5))
def test_folds_split_by_subject(fold: int) -> None:
    data = load_watch(WatchConfig(fold=fold))
    subjects = {
        s: set(np.asarray(data.split(s).groups).tolist()) for s in ("train", "validation", "test")
    }
    assert subjects["test"] == {2 * fold + 1, 2 * fold + 2}
    assert subjects["validation"] == {(2 * fold + 2) % 10 + 1, (2 * fold + 3) % 10 + 1}
    assert subjects["train"] == set(range(1, 11)) - subjects["test"] - subjects["validation"]
    assert data.split_rule.startswith(f"fold {fold} of 5 by subject: train ")
    assert f"test {2 * fold + 1}, {2 * fold + 2}" in data.split_rule


@needs_seglearn
def test_normalisation_sees_training_subjects_only(raw: MultimodalDataset) -> None:
    data = load_watch(WatchConfig())
    assert data.preparation.to_json() == Preparation.fit(raw.train).to_json()
    for modality in data.spec.modalities:
        assert np.allclose(data.train.features[modality].mean(axis=0), 0, atol=1e-4)
        assert np.allclose(data.train.features[modality].std(axis=0), 1, atol=1e-3)
        assert not np.allclose(data.test.features[modality].mean(axis=0), 0, atol=1e-3)


@needs_seglearn
def test_deltas_double_the_features() -> None:
    data = load_watch(WatchConfig(deltas=True))
    assert dict(data.spec.modalities) == {"accelerometer": 6, "gyroscope": 6}
    assert data.train.features["gyroscope"].shape[1] == 6


@needs_seglearn
def test_seglearn_is_not_imported() -> None:
    code = (
        "import sys; from fusionkit.data.watch import WatchConfig, load_watch; "
        "load_watch(WatchConfig()); print('seglearn' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    assert run.stdout.strip() == "False"


@needs_seglearn
def test_another_file_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "_SHA256", "0" * 64)
    (note,) = load_watch(WatchConfig()).notes
    assert "watch_dataset.npy is not the file of seglearn 1.2.5" in note


def test_without_seglearn_the_error_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"seglearn.*pip install 'fusionkit-torch\[demo\]'"):
        load_watch(WatchConfig())


def test_a_foreign_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    content = np.empty((), dtype=object)
    content[()] = {"X": []}
    np.save(tmp_path / "watch_dataset.npy", content)
    monkeypatch.setattr(watch, "_locate", lambda: tmp_path / "watch_dataset.npy")
    with pytest.raises(DataError, match=r"watch_dataset\.npy: not the smartwatch data.*X_labels"):
        load_watch(WatchConfig())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
