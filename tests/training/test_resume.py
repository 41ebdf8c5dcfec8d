"""A run that is killed in the middle of an epoch and resumed ends with the same bits."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import fusionkit as fk
from fusionkit.errors import CheckpointError, MisuseError, RunExistsError

OPTIONS = [
    "--data", "synthetic", "--set", "data.samples=240", "--set", "hidden_size=6",
    "--set", "train.epochs=4", "--set", "train.batch_size=8", "--set", "train.scheduler=onecycle",
    "--set", "train.input_noise=0.1", "--set", "train.clip_norm=1",
]  # fmt: skip
SMALL: dict[str, Any] = {"model": {"hidden_size": 4}, "data_options": {"samples": 120}}


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "fusionkit", "train", *map(str, arguments)]


def selected_weights(run: Path) -> dict[str, str]:
    pointer = json.loads((run / "checkpoints" / "checkpoints.json").read_text())
    return {
        which: hashlib.sha256(
            (run / "checkpoints" / name / "model.safetensors").read_bytes()
        ).hexdigest()
        for which, name in pointer.items()
    }


def without_times(run: Path) -> dict[str, object]:
    results = json.loads((run / "results.json").read_text())
    for record in results["history"]:
        del record["seconds"]
    return dict(results)


def test_killed_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command("mmlatch", *OPTIONS, "--out", whole), check=True, capture_output=True)

    process = subprocess.Popen(
        command("mmlatch", *OPTIONS, "--out", killed),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (killed / "checkpoints" / "epoch-0002").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline, "no second checkpoint after two minutes"
        time.sleep(0.01)
    time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (killed / "results.json").exists()

    done = subprocess.run(command("--resume", killed), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert selected_weights(killed) == selected_weights(whole)
    assert without_times(killed) == without_times(whole)


def test_finished_run_is_not_resumed(tmp_path: Path) -> None:
    fk.train("unimodal", data="synthetic", out=tmp_path / "run", train={"epochs": 1}, **SMALL)
    with pytest.raises(MisuseError, match="finished"):
        fk.train(resume=tmp_path / "run")


def test_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    with pytest.raises(RunExistsError, match="never overwritten"):
        fk.train("unimodal", data="synthetic", out=tmp_path, train={"epochs": 1}, **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_changed_data_are_noticed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    fk.train("unimodal", data="synthetic", out=run, train={"epochs": 1}, **SMALL)
    description = json.loads((run / "run.json").read_text())
    description["data"]["sha256"] = "0" * 64
    (run / "run.json").write_text(json.dumps(description))
    with pytest.raises(CheckpointError, match="have changed since the run started"):
        fk.evaluate(run)


def test_foreign_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"run\.json is missing"):
        fk.train(resume=tmp_path)
