"""Splits are disjoint, and the preparation is fitted on the training split alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from fusionkit.data.assemble import assemble_dataset
from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.preparation import Preparation
from fusionkit.data.source import DataConfig
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import DataError


def _store() -> SequenceStore:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 6, 10)
    return SequenceStore(
        features={"a": generator.normal(3, 2, (lengths.sum(), 2)).astype(np.float32)},
        lengths={"a": lengths},
        targets=np.arange(10) % 2,
        ids=[f"s{i}" for i in range(10)],
    )


_SPLITS: dict[Split, tuple[int, int]] = {"train": (0, 6), "validation": (6, 8), "test": (8, 10)}


def _assemble(
    store: SequenceStore,
    config: DataConfig,
    splits: Mapping[Split, tuple[int, int]] = _SPLITS,
    sizes: Mapping[str, int] = {"a": 2},
) -> MultimodalDataset:
    return assemble_dataset(
        store,
        DataSpec(dict(sizes), "classification", 2),
        {name: np.arange(*bounds) for name, bounds in splits.items()},
        config,
        name="mine",
        where="mine.npz",
        split_rule="by hand",
        source="nowhere",
        notes=["first"],
    )


def test_splits_hold_their_samples() -> None:
    data = _assemble(_store(), DataConfig())
    assert list(data.train.ids) == [f"s{i}" for i in range(6)]
    assert list(data.split("validation").ids) == ["s6", "s7"]
    assert list(data.test.ids) == ["s8", "s9"]
    assert (data.name, data.split_rule, data.source) == ("mine", "by hand", "nowhere")


def test_test_values_do_not_reach_the_preparation() -> None:
    data = _assemble(_store(), DataConfig())
    changed = _store()
    start = changed.offsets["a"][6]
    changed.features["a"][start:] += 100
    other = _assemble(changed, DataConfig())
    assert other.preparation.to_json() == data.preparation.to_json()
    assert other.train.sha256() == data.train.sha256()
    assert other.test.sha256() != data.test.sha256()
    raw = _store().select(range(6))
    assert data.preparation.to_json() == Preparation.fit(raw).to_json()


def test_deltas_and_no_normalisation() -> None:
    data = _assemble(_store(), DataConfig(deltas=True, normalise=False))
    assert dict(data.spec.modalities) == {"a": 4}
    assert data.preparation == Preparation(deltas=True)
    assert np.array_equal(data.train.features["a"][:, :2], _store().select(range(6)).features["a"])


def test_repairs_are_noted() -> None:
    store = _store()
    store.features["a"][0, 0] = np.nan
    data = _assemble(store, DataConfig(nonfinite="zero", normalise=False))
    assert data.notes == [
        "first",
        "mine.npz: 1 NaN or infinite values of 'a' in 1 samples were set to 0",
    ]
    assert data.train.features["a"][0, 0] == 0
    with pytest.raises(DataError, match=r"^mine\.npz: modality 'a'"):
        _assemble(store, DataConfig())


def test_overlapping_and_empty_splits() -> None:
    with pytest.raises(DataError, match=r"mine\.npz: sample 's5' is in the train and the test"):
        _assemble(_store(), DataConfig(), {**_SPLITS, "test": (5, 6)})
    with pytest.raises(DataError, match=r"mine\.npz: the validation split has no samples; change"):
        _assemble(_store(), DataConfig(), {**_SPLITS, "validation": (6, 6)})


def test_a_modality_that_no_training_sample_has() -> None:
    store = _store()
    lengths = store.lengths["a"].copy()
    flat = store.features["a"][int(lengths[:6].sum()) :]
    lengths[:6] = 0
    features = {"a": flat, "b": store.features["a"]}
    lacking = replace(store, features=features, lengths={"a": lengths, "b": store.lengths["a"]})
    with pytest.raises(DataError, match=r"mine\.npz: no training sample has 'a'; leave it out"):
        _assemble(lacking, DataConfig(missing="zeros"), sizes={"a": 2, "b": 2})


def test_hash_is_the_same_in_another_process() -> None:
    code = (
        "from fusionkit.data.synthetic import SyntheticConfig, load_synthetic; "
        "print(load_synthetic(SyntheticConfig(samples=40)).sha256)"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    hashes = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(hashes) == 1
    assert len(hashes.pop().strip()) == 64


def test_hash_changes_with_any_value_target_or_id() -> None:
    base = _assemble(_store(), DataConfig()).sha256
    for split in ("features", "targets", "ids"):
        store = _store()
        if split == "features":
            store.features["a"][-1, -1] += 1
        elif split == "targets":
            assert store.targets is not None
            store.targets[9] = 0
        else:
            store = SequenceStore(
                store.features, store.lengths, store.targets, [*store.ids[:-1], "other"]
            )
        assert _assemble(store, DataConfig()).sha256 != base, split
