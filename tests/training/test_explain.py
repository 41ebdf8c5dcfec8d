"""What a run's model says about one sample, and what cannot be asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import fusionkit as fk
from fusionkit.errors import CheckpointError, ConfigError, MisuseError, PluginError
from fusionkit.training import explain
from fusionkit.training.explain import explain_run
from fusionkit.training.inference import evaluate_run

SIZES = {"text": 20, "audio": 12, "vision": 8}
TRAIN = {"epochs": 1}
DATA = {"samples": 90}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "masked"
    model = {"hidden_size": 4, "mask": "boom"}
    fk.train("mmlatch", "synthetic", model=model, train=TRAIN, data_options=DATA, out=out)
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "plain"
    fk.train("unimodal", "synthetic", model={"hidden_size": 4}, train=TRAIN, data_options=DATA,
             out=out)  # fmt: skip
    return out


def first_test_id(run: Path) -> str:
    with np.load(run / "examples.npz") as file:
        return str(file["id"][0])


def test_arrays_of_a_sample_are_the_models(run: Path) -> None:
    found = explain_run(run, first_test_id(run))
    assert (found.method, found.sample, found.origin) == ("mmlatch", first_test_id(run), "test")
    assert list(found.arrays) == [f"mask of {m}" for m in SIZES]
    dataset = fk.load_data("synthetic", **DATA)
    index = list(dataset.test.ids).index(found.sample)
    batch = dataset.test.batch([index])
    steps = min(int(n) for n in batch.lengths.values())
    for (name, array), size in zip(found.arrays.items(), SIZES.values()):
        assert array.shape == (steps, size), name
        assert array.dtype == np.float32
        assert 0 < array.min() < array.max() < 1
    assert dataset.test.targets is not None
    assert found.target == str(dataset.test.targets[index])
    predicted = fk.predict(run, run / "examples.npz")
    assert found.prediction == predicted.labels[predicted.ids.index(found.sample)]


def test_own_samples_give_the_same_without_a_target(run: Path) -> None:
    name = first_test_id(run)
    of_data, of_file = explain_run(run, name), explain_run(run, name, samples=run / "examples.npz")
    assert of_file.target is None
    assert of_file.origin == "examples"
    assert of_file.prediction == of_data.prediction
    for key, array in of_data.arrays.items():
        np.testing.assert_allclose(array, of_file.arrays[key], atol=1e-6)


def test_the_only_sample_needs_no_id(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {m: rng.normal(size=(5, d)) for m, d in SIZES.items()}
    np.savez(tmp_path / "mine.npz", **arrays)
    found = explain_run(run, samples=tmp_path / "mine.npz")
    assert found.sample == "mine"
    assert found.arrays["mask of text"].shape == (5, 20)


def test_another_split(run: Path) -> None:
    with pytest.raises(MisuseError, match="validation data: no sample"):
        explain_run(run, first_test_id(run), split="validation")


def test_unknown_samples_name_the_nearest(run: Path) -> None:
    name = first_test_id(run)
    with pytest.raises(MisuseError, match=f"no sample '{name}x'; nearest: .*{name}"):
        explain_run(run, f"{name}x")
    with pytest.raises(MisuseError, match=f"for example, {name}, "):
        explain_run(run, "nothing like it")
    with pytest.raises(MisuseError, match=f"choose one with --sample, such as {name}, "):
        explain_run(run)


def test_methods_without_masks_name_those_that_have_some(plain: Path) -> None:
    with pytest.raises(ConfigError, match=r"'unimodal' has no masks.*: .*\bmmlatch\b") as error:
        explain_run(plain, "x")
    assert "unimodal," not in str(error.value)


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a FusionKit run"):
        explain_run(tmp_path / "nowhere", "x")


def test_an_explanation_changes_nothing(run: Path) -> None:
    before = evaluate_run(run, split="test", metrics=None, device="cpu")
    explain_run(run, first_test_id(run))
    assert evaluate_run(run, split="test", metrics=None, device="cpu") == before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "nothing"),
        (None, "nothing"),
        ({"mask": torch.zeros(3, 4)}, r"'mask', which is not \(B, T, D\)"),
        ({"mask": torch.zeros(2, 3, 4)}, r"'mask', which is not \(B, T, D\)"),
        ({"mask": "zeros"}, r"'mask', which is not \(B, T, D\)"),
        ({"mask": torch.full((1, 3, 4), 1.5)}, r"'mask' with values not in \[0, 1\]"),
        ({"mask": torch.full((1, 3, 4), torch.nan)}, r"'mask' with values not in \[0, 1\]"),
    ],
)
def test_explanations_of_a_wrong_form(
    run: Path, monkeypatch: pytest.MonkeyPatch, arrays: Any, message: str
) -> None:
    monkeypatch.setattr("fusionkit_plugins.mmlatch.model.MMLatch.explain", lambda *_: arrays)
    with pytest.raises(PluginError, match=f"method 'mmlatch': explain gives {message}"):
        explain_run(run, first_test_id(run))


@pytest.mark.parametrize(
    ("task", "outputs", "value", "text"),
    [
        ("classification", 3, np.int64(2), "happy"),
        ("multilabel", 3, np.array([1.0, 0.0, 1.0]), "angry happy"),
        ("regression", 1, np.float32(0.5), "0.5000"),
        ("regression", 3, np.array([0.5, 1.0, -2.0]), "0.5000 1.0000 -2.0000"),
    ],
)
def test_targets_as_text(task: Any, outputs: int, value: Any, text: str) -> None:
    names = ("angry", "calm", "happy") if task != "regression" else ()
    spec = fk.DataSpec({"text": 3}, task, outputs, class_names=names)
    store: Any = SimpleNamespace(targets=np.array([value]))
    assert explain._target(store, spec) == text
