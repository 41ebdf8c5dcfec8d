"""The source ``npz`` on real files of research data, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fusionkit.data.formats.arrays import NpzConfig, load_npz


def test_utd_mhad(shared: Path) -> None:
    config = NpzConfig(
        path=shared / "data" / "utd_mhad" / "utd_mhad.npz",
        target="action",
        group="subject",
        train_groups=[1, 3, 5, 7],
        test_groups=[2, 4, 6, 8],
    )
    data = load_npz(config)
    assert dict(data.spec.modalities) == {"skeleton": 60, "inertial": 6}
    assert (data.spec.task, data.spec.num_outputs) == ("classification", 27)
    assert data.spec.class_names == tuple(str(i) for i in range(1, 28))
    assert [len(s) for s in (data.train, data.validation, data.test)] == [367, 64, 430]
    assert sum(len(s) for s in (data.train, data.validation, data.test)) == 861
    subjects = {
        s: sorted(set(np.asarray(data.split(s).groups).tolist()))
        for s in ("train", "validation", "test")
    }
    assert subjects["train"] == subjects["validation"] == [1, 3, 5, 7]
    assert subjects["test"] == [2, 4, 6, 8]
    assert data.validation.targets is not None
    assert set(np.bincount(data.validation.targets).tolist()) == {2, 3}
    lengths = np.concatenate([data.split(s).lengths["skeleton"] for s in ("train", "test")])
    assert lengths.min() >= 41 and lengths.max() <= 125
    assert not set(data.train.ids) & set(data.validation.ids)
    for flat in data.train.features.values():
        assert np.allclose(flat.mean(axis=0), 0, atol=1e-3)


def test_utd_mhad_depth_images_are_flattened(shared: Path) -> None:
    config = NpzConfig(
        path=shared / "data" / "utd_mhad" / "utd_mhad_depth24.npz", test_groups=[2, 4, 6, 8]
    )
    assert dict(load_npz(config).spec.modalities) == {"depth": 576}


def test_ravdess_vectors_beside_sequences(shared: Path) -> None:
    config = NpzConfig(
        path=shared / "data" / "ravdess_av" / "ravdess_av.npz",
        modalities=["audio", "vision_au"],
        validation_groups=[21, 22],
        test_groups=[23, 24],
    )
    data = load_npz(config)
    assert dict(data.spec.modalities) == {"audio": 40, "vision_au": 35}
    assert (data.spec.num_outputs, len(data.test), len(data.validation)) == (8, 120, 120)
