"""Checkpoints: complete or not there, never executed, and kept when a save fails."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fusionkit.errors import CheckpointError
from fusionkit.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    random_states,
    restore_random_states,
    save_checkpoint,
)

WEIGHTS = {"layer.weight": torch.arange(6.0).view(2, 3)}


def save(folder: Path, epoch: int, best: int = 1) -> None:
    state = TrainingState(epoch, [{"epoch": float(epoch)}], best, 0.5)
    save_checkpoint(folder, WEIGHTS, {"random": random_states(), "number": epoch}, state)


def test_round_trip(tmp_path: Path) -> None:
    save(tmp_path, 1)
    weights, training, state = load_checkpoint(tmp_path)
    assert torch.equal(weights["layer.weight"], WEIGHTS["layer.weight"])
    assert training["number"] == 1
    assert state == TrainingState(1, [{"epoch": 1.0}], 1, 0.5)


def test_only_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    for epoch in range(1, 5):
        save(tmp_path, epoch, best=2 if epoch >= 2 else 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "checkpoints.json", "epoch-0002", "epoch-0004",
    ]  # fmt: skip
    assert load_checkpoint(tmp_path, "best")[1]["number"] == 2
    assert load_checkpoint(tmp_path, "last")[1]["number"] == 4


@pytest.mark.parametrize("file", ["model.safetensors", "training.pt", "state.json"])
def test_truncated_files_are_refused(tmp_path: Path, file: str) -> None:
    save(tmp_path, 1)
    path = tmp_path / "epoch-0001" / file
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CheckpointError, match="epoch-0001"):
        load_checkpoint(tmp_path)


def test_one_changed_bit_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    path = tmp_path / "epoch-0001" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="changed since it was saved"):
        load_checkpoint(tmp_path)


def test_foreign_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        load_checkpoint(tmp_path)
    (tmp_path / "checkpoints.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        load_checkpoint(tmp_path)


def test_a_pickle_in_disguise_is_not_executed(tmp_path: Path) -> None:
    import hashlib

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "exploded"),)

    save(tmp_path, 1)
    folder = tmp_path / "epoch-0001"
    content = pickle.dumps(Bomb(), protocol=2)
    (folder / "training.pt").write_bytes(content)
    state = json.loads((folder / "state.json").read_text())
    state["sha256"]["training.pt"] = hashlib.sha256(content).hexdigest()
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_full_disk_keeps_the_previous_checkpoint(tmp_path: Path) -> None:
    """A file-size limit makes the kernel refuse the write, as a full disk would."""
    code = f"""
import resource
from pathlib import Path
import torch
from fusionkit.errors import CheckpointError
from fusionkit.training.checkpoint import TrainingState, random_states, save_checkpoint

folder = Path({str(tmp_path)!r})
def save(epoch, size):
    state = TrainingState(epoch, [], 1, 0.5)
    save_checkpoint(folder, {{"w": torch.zeros(size)}}, {{"random": random_states()}}, state)
save(1, 10)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    save(2, 1_000_000)
except CheckpointError as error:
    print(error)
else:
    raise SystemExit("the save went through")
"""
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "epoch-0002" in done.stdout
    assert "(epoch-0001) is intact" in done.stdout
    assert load_checkpoint(tmp_path)[2].epoch == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints.json", "epoch-0001"]


def test_random_generators_continue() -> None:
    def draw() -> list[float]:
        legacy = float(np.random.rand())  # noqa: NPY002  it is NumPy's global state that is tested
        return [torch.rand(()).item(), legacy, random.random(), random.gauss(0, 1)]

    draw()
    states = random_states()
    expected = draw()
    draw()
    restore_random_states(states)
    assert draw() == expected
