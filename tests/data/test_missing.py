"""Samples that lack a modality: refused, or given zeros where the training data have their mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusionkit as fk
from fusionkit.data.preparation import Preparation
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.data.validate import validate_store
from fusionkit.errors import DataError

SPEC = DataSpec({"audio": 2, "text": 3}, "regression", 1)


def store(audio: list[int], text: list[int]) -> SequenceStore:
    generator = np.random.default_rng(0)
    lengths = {"audio": np.array(audio), "text": np.array(text)}
    features = {
        m: generator.normal(5, 2, (int(n.sum()), SPEC.modalities[m])).astype(np.float32)
        for m, n in lengths.items()
    }
    return SequenceStore(features, lengths, None, [f"s{i}" for i in range(len(audio))])


def test_gaps_are_filled_with_zeros_after_normalisation() -> None:
    raw = store([2, 0, 3, 0], [4, 5, 0, 1])
    prepared = Preparation.fit(raw, deltas=True, missing="zeros").apply(raw)
    assert prepared.lengths["audio"].tolist() == [2, 5, 3, 1]
    assert prepared.lengths["text"].tolist() == [4, 5, 3, 1]
    assert not prepared.sequence("audio", 1).any() and not prepared.sequence("text", 2).any()
    without = Preparation.fit(raw, deltas=True).apply(raw)
    for modality, index in (("audio", 0), ("audio", 2), ("text", 0), ("text", 1), ("text", 3)):
        assert np.array_equal(prepared.sequence(modality, index), without.sequence(modality, index))
    validate_store(
        prepared, Preparation(deltas=True).prepared_spec(SPEC), where="f", nonfinite="error"
    )


def test_one_frame_where_the_other_modalities_disagree() -> None:
    raw = store([2, 3], [4, 5])
    third = replace(
        raw,
        features={**raw.features, "vision": np.ones((2, 1), np.float32)},
        lengths={**raw.lengths, "vision": np.array([0, 2])},
    )
    assert Preparation(missing="zeros").apply(third).lengths["vision"].tolist() == [1, 2]


@pytest.mark.parametrize("missing", ["error", "zeros"])
def test_samples_without_any_frame_are_refused(missing: str) -> None:
    with pytest.raises(DataError, match=r"sample 's1' has (length 0|no frame in any)"):
        validate_store(
            store([2, 0], [4, 0]), SPEC, where="f", nonfinite="error",
            missing=missing,  # type: ignore[arg-type]
        )  # fmt: skip


def test_alignment_is_asked_of_what_is_there() -> None:
    aligned = replace(SPEC, aligned=True)
    options = {"where": "f", "nonfinite": "error", "missing": "zeros"}
    validate_store(store([2, 0, 3], [2, 5, 0]), aligned, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="said to be aligned"):
        validate_store(store([2, 0, 3], [2, 5, 4]), aligned, **options)  # type: ignore[arg-type]


def test_a_run_trains_and_predicts_with_gaps(tmp_path: Path) -> None:
    count = 60
    audio = np.where(np.arange(count) % 4 == 0, 0, 3)
    raw = store(audio.tolist(), [4] * count)
    arrays: dict[str, Any] = {m: raw.features[m] for m in raw.features}
    arrays |= {f"{m}_len": raw.lengths[m] for m in raw.lengths}
    arrays |= {"label": np.arange(count) % 3, "group": np.arange(count) % 6}
    np.savez(tmp_path / "gaps.npz", **arrays)
    options: dict[str, Any] = {
        "data": f"npz:{tmp_path / 'gaps.npz'}", "model": {"hidden_size": 4},
        "train": {"epochs": 1}, "out": tmp_path / "run",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"data\.missing=zeros"):
        fk.train("mmlatch", **options)
    result = fk.train("mmlatch", data_options={"missing": "zeros"}, **options)
    new = SequenceStore(
        {"audio": np.zeros((0, 2), np.float32), "text": raw.features["text"][:4]},
        {"audio": np.array([0]), "text": np.array([4])}, None, ["alone"],
    )  # fmt: skip
    assert np.isfinite(fk.predict(result.folder, new).outputs.numpy()).all()
