"""Differences and normalisation of features."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from fusionkit.data.preparation import Preparation
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore


@pytest.fixture
def store() -> SequenceStore:
    generator = np.random.default_rng(0)
    features = generator.normal(5, 3, (7, 2)).astype(np.float32)
    features[:, 1] = 4
    return SequenceStore({"a": features}, {"a": np.array([3, 1, 3])}, None, ["x", "y", "z"])


def test_normalised_training_frames_have_mean_0_and_deviation_1(store: SequenceStore) -> None:
    flat = Preparation.fit(store).apply(store).features["a"]
    assert flat.dtype == np.float32
    assert np.allclose(flat.mean(axis=0), 0, atol=1e-6)
    assert np.allclose(flat.std(axis=0), [1, 0], atol=1e-6)


def test_the_same_numbers_are_used_for_other_samples(store: SequenceStore) -> None:
    preparation = Preparation.fit(store)
    one = store.select([2])
    expected = (one.features["a"] - preparation.mean["a"]) / preparation.std["a"]
    assert np.array_equal(preparation.apply(one).features["a"], expected)


def test_differences_start_at_0_in_every_sample(store: SequenceStore) -> None:
    prepared = Preparation(deltas=True).apply(store)
    for i in range(3):
        raw, both = store.sequence("a", i), prepared.sequence("a", i)
        assert np.array_equal(both[:, :2], raw)
        assert np.array_equal(both[0, 2:], [0, 0])
        assert np.array_equal(both[1:, 2:], np.diff(raw, axis=0))


def test_json_round_trip_is_exact(store: SequenceStore) -> None:
    preparation = Preparation.fit(store, deltas=True)
    read = Preparation.from_json(json.loads(json.dumps(preparation.to_json())))
    assert read.deltas
    for name in ("mean", "std"):
        values, expected = getattr(read, name)["a"], getattr(preparation, name)["a"]
        assert values.dtype == np.float32
        assert np.array_equal(values, expected)


@pytest.mark.parametrize(("deltas", "size"), [(False, 3), (True, 6)])
def test_specs_before_and_after(deltas: bool, size: int) -> None:
    raw = DataSpec({"a": 3, "b": 1}, "regression", 1)
    preparation = Preparation(deltas=deltas)
    prepared = preparation.prepared_spec(raw)
    assert prepared.modalities["a"] == size
    assert preparation.raw_spec(prepared) == raw


def test_context_becomes_indices_and_back(store: SequenceStore) -> None:
    raw = replace(store, context={"turn": np.array([10, 9, 10]), "who": np.array(["b", "", "a"])})
    fitted = Preparation.fit(raw, normalise=False)
    assert fitted.mean == {}
    preparation = Preparation.from_json(json.loads(json.dumps(fitted.to_json())))
    assert preparation.context == fitted.context == {"turn": ("9", "10"), "who": ("a", "b")}
    prepared = preparation.apply(raw)
    assert {n: v.tolist() for n, v in prepared.context.items()} == {
        "turn": [2, 1, 2],
        "who": [2, 0, 1],
    }
    other = replace(store, context={"turn": np.array(["10", "11", "9"]), "else": np.arange(3)})
    assert {n: v.tolist() for n, v in preparation.apply(other).context.items()} == {
        "turn": [2, 0, 1],
        "who": [0, 0, 0],
    }
    again = preparation.apply(preparation.invert(prepared))
    assert all(np.array_equal(again.context[n], v) for n, v in prepared.context.items())
    spec = DataSpec({"a": 2}, "regression", 1)
    known = preparation.prepared_spec(spec)
    assert known.context == {"turn": 3, "who": 3}
    assert preparation.raw_spec(known) == spec


def test_runs_from_before_there_was_a_context(store: SequenceStore) -> None:
    content = Preparation.fit(store).to_json()
    del content["context"]
    assert Preparation.from_json(content).apply(store).context == {}


def test_centring_takes_the_mean_of_each_sample_away() -> None:
    rng = np.random.default_rng(0)
    store = SequenceStore(
        features={
            "skeleton": rng.normal(5, 1, (9, 2)).astype(np.float32),
            "inertial": rng.normal(5, 1, (9, 3)).astype(np.float32),
        },
        lengths={"skeleton": np.array([4, 5]), "inertial": np.array([6, 3])},
        targets=None,
        ids=["a", "b"],
    )
    preparation = Preparation(centre=("skeleton",))
    prepared = preparation.apply(store)
    for index in range(2):
        raw = store.sequence("skeleton", index)
        assert np.allclose(prepared.sequence("skeleton", index), raw - raw.mean(0), atol=1e-6)
    assert np.array_equal(prepared.features["inertial"], store.features["inertial"])
    fitted = Preparation.fit(store, centre=["skeleton"], deltas=True)
    assert Preparation.from_json(fitted.to_json()).centre == ("skeleton",)
    again = fitted.apply(fitted.invert(fitted.apply(store)))
    for modality, flat in fitted.apply(store).features.items():
        assert np.allclose(again.features[modality], flat, atol=1e-4)
