"""Runs and requests that are not as they should be: one clear error, before work is lost."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fusionkit as fk
from fusionkit.errors import CheckpointError, ConfigError, DataError, FusionKitError
from fusionkit.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint

SMALL: dict[str, Any] = {"data": "synthetic", "data_options": {"samples": 60}}


def train(out: Path, **options: Any) -> Any:
    train = {"epochs": 1, **options.pop("train", {})}
    model = {"hidden_size": 4, **options.pop("model", {})}
    return fk.train("unimodal", out=out, train=train, model=model, **{**SMALL, **options})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(folder)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def edit(folder: Path, change: Any) -> None:
    content = json.loads((folder / "run.json").read_text())
    change(content)
    (folder / "run.json").write_text(json.dumps(content))


KEYS = ["method", "model", "train", "data", "spec", "preparation", "seed", "metrics", "versions"]


@pytest.mark.parametrize("key", KEYS)
def test_run_json_without_a_field(copy: Path, key: str) -> None:
    edit(copy, lambda content: content.pop(key))
    for act in (fk.evaluate, lambda p: fk.predict(p, p / "examples.npz"), resume):
        with pytest.raises(CheckpointError, match=rf"run\.json.*{key}"):
            act(copy)


def resume(folder: Path) -> Any:
    return fk.train(resume=folder)


def test_run_json_with_wrong_contents(copy: Path) -> None:
    edit(copy, lambda c: c["preparation"]["mean"].update(text=[0.0]))
    with pytest.raises(CheckpointError, match="'preparation' does not fit modality 'text'"):
        fk.evaluate(copy)
    edit(copy, lambda c: c["spec"].update(num_outputs=0))
    with pytest.raises(CheckpointError, match="num_outputs"):
        fk.evaluate(copy)


def test_weights_of_another_configuration(copy: Path) -> None:
    (copy / "results.json").unlink()
    edit(copy, lambda c: c["model"].update(hidden_size=5))
    for act in (resume, fk.evaluate):
        with pytest.raises(CheckpointError, match="another model or configuration"):
            act(copy)


def test_lost_pointer_does_not_restart_the_run(copy: Path) -> None:
    (copy / "results.json").unlink()
    (copy / "checkpoints" / "checkpoints.json").unlink()
    for epoch in (copy / "checkpoints").glob("epoch-*"):
        epoch.rename(epoch.with_name("epoch-0002"))
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        resume(copy)


def test_killed_before_the_first_pointer_a_run_starts_again(copy: Path) -> None:
    before = json.loads((copy / "results.json").read_text())["test"]
    (copy / "results.json").unlink()
    (copy / "checkpoints" / "checkpoints.json").unlink()
    assert [p.name for p in (copy / "checkpoints").glob("epoch-*")] == ["epoch-0001"]
    resume(copy)
    assert json.loads((copy / "results.json").read_text())["test"] == before


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"train": {"learning_rate": float("inf")}}, ConfigError, "learning_rate: .*finite"),
        ({"train": {"monitor": "mae"}}, ConfigError, "train.monitor: 'mae' is not defined"),
        ({"metrics": "mult-iemocap"}, ConfigError, "has no metrics for classification"),
        ({"metrics": "mmsa", "data_options": {"num_classes": 5, "samples": 60}}, ConfigError,
         "metric set 'mmsa' does not fit"),
    ],
)  # fmt: skip
def test_misfits_are_found_before_training(
    tmp_path: Path, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        train(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_resume_takes_nothing_else(copy: Path) -> None:
    with pytest.raises(ConfigError, match="leave the other options out"):
        fk.train("unimodal", resume=copy)


def test_samples_from_memory_are_checked_too(run: Path) -> None:
    store = fk.load_data("synthetic", samples=60, normalise=False).test
    assert len(fk.predict(run, store).labels) == len(store)
    broken = {m: x.copy() for m, x in store.features.items()}
    next(iter(broken.values()))[0, 0] = np.nan
    with pytest.raises(DataError, match=r"samples: .*--nonfinite zero"):
        fk.predict(run, replace(store, features=broken))
    first = next(iter(store.features))
    one = replace(
        store, features={first: store.features[first]}, lengths={first: store.lengths[first]}
    )
    with pytest.raises(DataError, match="samples: "):
        fk.predict(run, one)


def test_tied_weights_can_be_saved(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(3, 3)
            self.two = nn.Linear(3, 3)
            self.two.weight = self.one.weight

    state = TrainingState(epoch=1, best_epoch=1)
    save_checkpoint(tmp_path, Tied().state_dict(), {}, state)
    weights = load_checkpoint(tmp_path)[0]
    assert torch.equal(weights["one.weight"], weights["two.weight"])


def test_ten_modalities() -> None:
    from fusionkit.testing import make_batch

    spec = fk.DataSpec({f"m{k}": 2 for k in range(10)}, "regression", 1)
    model = fk.create("mmlatch", spec, hidden_size=3)
    assert model(make_batch(spec, [3, 2])).shape == (2, 1)


def test_half_precision_needs_a_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is there, which can do it")
    with pytest.raises(FusionKitError, match="16-mixed needs a GPU"):
        train(tmp_path / "run", train={"precision": "16-mixed"})
