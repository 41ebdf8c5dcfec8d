"""A comparison that fails, is killed or runs out of disk space, and goes on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fusionkit.errors import CheckpointError
from fusionkit.registry import Method, registry
from fusionkit.registry.manager import Registered
from fusionkit.training.comparison import Comparison

from comparisons import METHODS, run, without_times


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A method whose code fails with one seed."""
    mmlatch: Method = registry().get("method", "mmlatch")

    def step(model: Any, batch: Any, loss: Any) -> Any:
        import torch

        if torch.initial_seed() == 1:
            raise ZeroDivisionError("a bug")
        return loss(model(batch), batch.targets)

    broken = replace(mmlatch, name="fragile", training_step=step)
    table = registry()._table("method")
    monkeypatch.setitem(table, "fragile", [Registered(broken, "test 0")])


def test_too_little_space_is_said_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 2**14))
    with pytest.raises(CheckpointError, match=r"6 runs need about .* MiB .* 0 MiB are free"):
        run(tmp_path / "c")
    assert not any((tmp_path / "c").glob("*/seed-*"))
    monkeypatch.undo()
    # Nothing has begun, so a smaller comparison may have the folder.
    comparison, _ = run(tmp_path / "c", ["unimodal:text"], model={"hidden_size": 2})
    assert len(comparison.rows) == 1


def test_disk_that_fills_up_stops_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: tuple[Path, Comparison]
) -> None:
    from fusionkit.training import loop

    save: Any = vars(loop)["save_checkpoint"]
    calls = []

    def full(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) > 3:
            raise CheckpointError("No space left on device")
        save(*arguments)

    monkeypatch.setattr(loop, "save_checkpoint", full)
    with pytest.raises(CheckpointError, match="No space left"):
        run(tmp_path / "c")
    monkeypatch.undo()
    comparison, lines = run(tmp_path / "c")
    assert lines[0] == "1 of 6 runs are finished already"
    assert without_times(comparison.to_json()) == without_times(finished[1].to_json())


@pytest.mark.usefixtures("fragile")
def test_a_failed_run_does_not_stop_the_others(tmp_path: Path) -> None:
    comparison, lines = run(tmp_path / "c", ["fragile", "unimodal:text"])
    assert [row.label for row in comparison.rows] == ["fragile", "unimodal:text"]
    broken, whole = comparison.rows
    assert list(broken.runs) == [0]
    assert "ZeroDivisionError: a bug" in broken.failures[1]
    assert broken.difference is None
    assert len(whole.runs) == 2
    assert any("failed: ZeroDivisionError" in line for line in lines)
    traceback = tmp_path / "c" / "fragile" / "seed-1.failed.txt"
    assert "in step" in traceback.read_text()
    content = comparison.to_json()
    assert content["rows"][0]["mean"] is None
    assert len(content["failures"]) == 1


@pytest.mark.usefixtures("fragile")
def test_a_repaired_method_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "c", ["fragile"])
    whole = replace(registry().get("method", "mmlatch"), name="fragile")
    monkeypatch.setitem(registry()._table("method"), "fragile", [Registered(whole, "test 1")])
    comparison, lines = run(tmp_path / "c", ["fragile"])
    assert not comparison.failures
    assert lines[0] == "1 of 2 runs are finished already"
    assert not (tmp_path / "c" / "fragile" / "seed-1.failed.txt").exists()


def start(out: Path, *options: str) -> subprocess.Popen[bytes]:
    """The comparison of `run` in another process."""
    command = [
        sys.executable, "-m", "fusionkit", "compare", *METHODS, "--data", "synthetic", "--set",
        "data.samples=60", "--set", "hidden_size=3", "--set", "train.epochs=2", "--seeds", "0-1",
        "--device", "cpu", "--out", str(out), *options,
    ]  # fmt: skip
    with open(out.with_suffix(".stderr"), "wb") as errors:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)


def wait_for(process: subprocess.Popen[bytes], out: Path, begun: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not begun():
        assert process.poll() is None, out.with_suffix(".stderr").read_text()
        assert time.monotonic() < deadline, "it did not begin within five minutes"
        time.sleep(0.002)


def test_killed_and_continued_gives_the_same_table(
    tmp_path: Path, finished: tuple[Path, Comparison]
) -> None:
    killed = tmp_path / "killed"
    process = start(killed)
    second = killed / "mmlatch" / "seed-1"
    wait_for(process, killed, (second / "checkpoints" / "checkpoints.json").exists)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    results = {f: f.stat().st_mtime_ns for f in killed.glob("*/seed-*/results.json")}
    assert 1 <= len(results) < 6, "it was not killed in the middle"

    comparison, lines = run(killed)
    assert lines[0] == f"{len(results)} of 6 runs are finished already"
    assert {f: f.stat().st_mtime_ns for f in results} == results
    assert without_times(comparison.to_json()) == without_times(finished[1].to_json())


def test_several_at_a_time(tmp_path: Path, finished: tuple[Path, Comparison]) -> None:
    """The processes of a killed comparison end with it; continued, it gives the same numbers."""
    if not Path("/proc/self/task").exists():
        pytest.skip("no /proc, where the processes of a process are listed")
    killed = tmp_path / "killed"
    process = start(killed, "--jobs", "2")
    wait_for(process, killed, lambda: any(killed.glob("*/*/run.json")))
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    assert len(children) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while alive := [child for child in children if Path(f"/proc/{child}/cwd").exists()]:
        assert time.monotonic() < deadline, f"still there: {alive}"
        time.sleep(0.05)

    comparison, _ = run(killed, jobs=2)
    assert any("2 runs shared the machine" in note for note in comparison.notes)
    found, alone = without_times(comparison.to_json()), without_times(finished[1].to_json())
    assert found["rows"] == alone["rows"]
