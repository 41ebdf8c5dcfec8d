"""Recipes: the same training for every method, weaker than what the user says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.errors import UnknownNameError
from fusionkit.registry import Method, registry
from fusionkit.training.config import TrainConfig
from fusionkit.training.recipes import RECIPES
from fusionkit.training.settings import Settings, parse_overrides, resolve


def settings(
    method: str, data: str, *items: str, path: str | None = None, **options: Any
) -> Settings:
    found: Method = registry().get("method", method)
    source = registry().get("data set", data)
    return resolve(found, source, path=path, overrides=parse_overrides(items), **options)


def test_methods_do_not_train_as_they_prefer() -> None:
    assert settings("mmlatch", "synthetic").train != TrainConfig()
    for method in ("mmlatch", "unimodal"):
        assert settings(method, "synthetic", recipe="default").train == TrainConfig()
        trained = settings(method, "watch", recipe="watch", preset="sensors").train
        assert (trained.epochs, trained.optimizer, trained.monitor) == (12, "adamw", "accuracy")


def test_a_preset_keeps_its_model_alone() -> None:
    found = settings("mmlatch", "npz", path="x.npz", recipe="mmmo", preset="sensors")
    assert found.model.model_dump()["frontend_size"] == 64
    assert found.train.epochs == 30
    assert found.data.model_dump()["target"] == "y"
    assert found.data.model_dump()["centre"] == ()


def test_file_and_options_are_stronger(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("train: {epochs: 3, batch_size: 5}\n")
    found = settings("mmlatch", "watch", "train.epochs=2", recipe="watch", file=file)
    assert (found.train.epochs, found.train.batch_size) == (2, 5)
    assert found.train.learning_rate == 2e-3


def test_unknown_recipe() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'utd-mhad'"):
        settings("mmlatch", "synthetic", recipe="utdmhad")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_fit_the_harness(name: str) -> None:
    data = {"watch": "watch", "default": "watch", "synergy": "synthetic"}.get(name, "npz")
    settings("unimodal", data, path="x.npz" if data == "npz" else None, recipe=name)


@pytest.mark.parametrize(
    ("file", "recipe", "counts", "modalities"),
    [
        ("utd_mhad/utd_mhad.npz", "utd-mhad", (388, 43, 430), {"skeleton": 120, "inertial": 12}),
        ("ravdess_av/ravdess_av.npz", "ravdess", (960, 120, 360), {"audio": 80, "vision_au": 70}),
    ],
)
def test_recipes_read_their_data(
    shared: Path, file: str, recipe: str, counts: tuple[int, ...], modalities: dict[str, int]
) -> None:
    source = registry().get("data set", "npz")
    path = shared / "data" / file
    if not path.exists():
        pytest.skip(f"{path} is missing")
    found = settings("mmlatch", "npz", path=str(path), recipe=recipe)
    dataset = source.load(found.data)
    assert tuple(map(len, (dataset.train, dataset.validation, dataset.test))) == counts
    assert dataset.spec.modalities == modalities
    fitted = {str(g) for part in (dataset.train, dataset.validation) for g in part.groups}
    assert not fitted & {str(g) for g in dataset.test.groups}


def test_mmmo_reads_what_the_documentation_makes(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared / "data" / "mfn_pom_mmmo_youtube" / "mmmo.npz"
    if not path.exists():
        pytest.skip(f"{path} is missing")
    page = (Path(__file__).resolve().parents[2] / "docs" / "compare.md").read_text()
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    assert '"mmmo.npz"' in code
    exec(code.replace('"mmmo.npz"', repr(str(path))), {})
    found = settings("mmlatch", "npz", path="mmmo_split.npz", recipe="mmmo")
    dataset = registry().get("data set", "npz").load(found.data)
    assert tuple(map(len, (dataset.train, dataset.validation, dataset.test))) == (220, 40, 80)
    assert dataset.spec.modalities == {"audio": 74, "vision": 36}
    assert (dataset.spec.task, dataset.spec.aligned) == ("regression", True)
    with np.load(path) as source:
        assert np.array_equal(dataset.test.targets, source["y_test"])


def test_the_run_remembers_the_options_not_the_name(tmp_path: Path) -> None:
    import fusionkit as fk

    fk.train(
        "unimodal:audio", "synthetic", recipe="default", out=tmp_path / "run",
        model={"hidden_size": 3}, train={"epochs": 1}, data_options={"samples": 60},
    )  # fmt: skip
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["method"] == "unimodal"
    assert described["model"]["modality"] == "audio"
    assert described["train"]["learning_rate"] == TrainConfig().learning_rate
