"""What training does: selection, stopping, schedules, callbacks, errors before work is lost."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fusionkit as fk
from fusionkit.errors import ConfigError, FusionKitError, UnknownNameError
from fusionkit.training.checkpoint import TrainingState
from fusionkit.training.config import TrainConfig
from fusionkit.training.loop import _advance

SMALL: dict[str, Any] = {
    "data": "synthetic",
    "model": {"hidden_size": 4},
    "data_options": {"samples": 120},
}


def run(tmp_path: Path, name: str = "run", method: str = "unimodal", **options: Any) -> Any:
    train = {"epochs": 2, "batch_size": 16, **options.pop("train", {})}
    return fk.train(method, out=tmp_path / name, train=train, **{**SMALL, **options})


def test_result_is_complete(tmp_path: Path) -> None:
    result = run(tmp_path, seed=3)
    assert result.seed == 3
    assert len(result.data_sha256) == 64
    assert result.versions["fusionkit"] == fk.__version__
    assert "validation loss" in result.selection
    for scores in (result.validation, result.test):
        assert scores["accuracy"].low <= scores["accuracy"].value <= scores["accuracy"].high
    best = min(result.history, key=lambda record: record["validation_loss"])
    assert result.best_epoch == best["epoch"]
    stored = json.loads((result.folder / "results.json").read_text())
    assert stored["test"]["accuracy"]["value"] == result.test["accuracy"].value


def test_test_scores_are_those_of_the_selected_weights(tmp_path: Path) -> None:
    result = run(tmp_path, train={"epochs": 3})
    again = fk.evaluate(result.folder)
    assert again == result.test
    assert fk.evaluate(result.folder, split="validation") == result.validation
    best = result.history[result.best_epoch - 1]
    assert result.validation["accuracy"].value == best["validation_accuracy"]


def test_same_seed_same_numbers(tmp_path: Path) -> None:
    one, two = run(tmp_path, "one", seed=5), run(tmp_path, "two", seed=5)
    other = run(tmp_path, "other", seed=6)
    losses = [[r["train_loss"] for r in result.history] for result in (one, two, other)]
    assert losses[0] == losses[1] != losses[2]


def test_predict_gives_the_stored_predictions(tmp_path: Path) -> None:
    result = run(tmp_path, method="mmlatch")
    predictions = fk.predict(result.folder, result.folder / "examples.npz")
    stored = np.load(result.folder / "predictions-test.npz")
    assert predictions.ids == stored["id"][:3].tolist()
    assert np.allclose(predictions.outputs.numpy(), stored["outputs"][:3], atol=1e-5)
    assert predictions.probabilities is not None
    assert torch.allclose(predictions.probabilities.sum(dim=1), torch.ones(3))


@pytest.mark.parametrize("scheduler", ["none", "plateau", "onecycle", "cosine"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_optimizers_and_schedules(tmp_path: Path, scheduler: str, optimizer: str) -> None:
    train = {"scheduler": scheduler, "optimizer": optimizer, "accumulate": 3, "clip_norm": 1.0}
    result = run(tmp_path, train=train)
    assert all(math.isfinite(record["train_loss"]) for record in result.history)
    last = result.history[-1]["learning_rate"]
    assert last < {"onecycle": 1e-6, "cosine": 2e-4}.get(scheduler, 1.1e-3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_precision(tmp_path: Path, precision: str) -> None:
    result = run(tmp_path, method="mmlatch", train={"precision": precision, "epochs": 1})
    assert math.isfinite(result.history[0]["train_loss"])


def test_selection_and_patience() -> None:
    config = TrainConfig(patience=2)
    progress = TrainingState()
    seen = []
    for value in (3.0, 1.0, math.nan, 2.0):
        progress = _advance(progress, {"validation_loss": value}, config, higher=False)
        seen.append((progress.best_epoch, progress.stopped))
    assert seen == [(1, False), (2, False), (2, False), (2, True)]
    progress = _advance(TrainingState(), {"validation_f1": 0.2}, TrainConfig(monitor="f1"), True)
    progress = _advance(progress, {"validation_f1": 0.4}, TrainConfig(monitor="f1"), True)
    assert (progress.best_epoch, progress.best_value) == (2, 0.4)


def test_the_last_epoch_can_be_the_rule(tmp_path: Path) -> None:
    train = {"monitor": "last", "epochs": 3, "patience": 1, "learning_rate": 1.0}
    result = run(tmp_path, train=train)
    assert (result.best_epoch, result.epochs) == (3, 3)
    assert result.selection.startswith("last epoch")


def test_early_stopping_ends_the_run(tmp_path: Path) -> None:
    result = run(tmp_path, train={"epochs": 40, "patience": 1, "learning_rate": 1.0})
    assert result.epochs < 40
    assert result.epochs == result.best_epoch + 1


def test_logs(tmp_path: Path) -> None:
    result = run(tmp_path)
    rows = (result.folder / "logs/csv/version_0/metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    assert "validation_accuracy" in rows[0]
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    assert list((result.folder / "logs/tensorboard/version_0").glob("events.*"))


class Recorder:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_fit_start(self, state: Any) -> None:
        self.calls.append("start")

    def on_epoch_end(self, state: Any) -> None:
        self.calls.append(f"epoch {state.progress.epoch}")

    def on_fit_end(self, state: Any) -> None:
        self.calls.append("end")


def test_callbacks_are_called(tmp_path: Path) -> None:
    recorder = Recorder()
    run(tmp_path, callbacks=[recorder])
    assert recorder.calls == ["start", "epoch 1", "epoch 2", "end"]


def test_errors_come_before_the_folder_is_made(tmp_path: Path) -> None:
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UnknownNameError, "train.monitor", {"train": {"monitor": "acuracy"}}),
        (UnknownNameError, "callback", {"train": {"callbacks": ["nobody"]}}),
        (UnknownNameError, "metric set", {"metrics": "defaut"}),
        (ConfigError, "has no metrics for classification", {"metrics": "msaf"}),
        (ConfigError, "device", {"device": "gpu9"}),
        (FusionKitError, "seed", {"seed": -1}),
        (ConfigError, "no option", {"model": {"hidden": 3}}),
    ]
    for kind, message, options in cases:
        with pytest.raises(kind, match=message):
            run(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_exploding_loss_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FusionKitError, match=r"lower train\.learning_rate"):
        run(tmp_path, train={"learning_rate": 1e4, "optimizer": "sgd", "epochs": 5})


def test_undefined_values_survive_strict_json(tmp_path: Path) -> None:
    result = run(tmp_path, train={"epochs": 1})
    from dataclasses import replace

    from fusionkit.training.result import RunResult

    odd = replace(result, history=[{"epoch": 1.0, "validation_corr": math.nan}])
    text = json.dumps(odd.to_json(), allow_nan=False)
    again = RunResult.from_json(result.folder, json.loads(text))
    assert math.isnan(again.history[0]["validation_corr"])
    assert again.test == result.test


def test_outputs_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    from fusionkit.evaluation.protocol import predict_store

    dataset = fk.load_data("synthetic", samples=60)
    model = fk.create("unimodal", dataset.spec, hidden_size=3)
    with torch.no_grad():
        next(iter(model.classifier.parameters())).fill_(math.inf)  # type: ignore[union-attr]
    with pytest.raises(FusionKitError, match="outputs are not finite for"):
        predict_store(model, dataset.test, batch_size=8)
