"""The device, stream and memory that CUDA graphs are given, with those of `torch.cuda` made up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import fusionkit as fk
from fusionkit.training import cuda_graph, run
from fusionkit.training.loop import as_current

from graphed_runs import train


@contextmanager
def noted(log: list[str], name: str) -> Iterator[None]:
    """In place of a context manager of `torch.cuda`."""
    log.append(f"in {name}")
    yield
    log.append(f"out of {name}")


def test_captures_on_the_device_and_stream_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever device is the current one."""
    log: list[str] = []

    def graph(made: Any, pool: Any, stream: Any) -> Any:
        return noted(log, f"{made.name} of {pool} on {stream.name}")

    class Stream:
        name, device = "the stream", torch.device("cuda", 1)

    class Graph:
        name = "a graph"

        def replay(self) -> None:
            log.append("replay")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "device", lambda device: noted(log, str(device)))
    monkeypatch.setattr(torch.cuda, "graph", graph)
    replay, loss = cuda_graph.capture_step(lambda: torch.tensor(len(log)), "a pool", Stream())
    replay()
    held = "a graph of a pool on the stream"
    assert log == ["in cuda:1", f"in {held}", f"out of {held}", "out of cuda:1", "replay"]
    assert int(loss) == 2


def test_training_has_its_device_as_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: noted(log, str(device)))
    with as_current(torch.device("cuda", 1)), as_current(torch.device("cpu")):
        log.append("work")
    assert log == ["in cuda:1", "work", "out of cuda:1"]

    class Look:
        def on_fit_start(self, state: Any) -> None:
            log.append("fit")

    log.clear()
    monkeypatch.setattr(run, "as_current", lambda device: noted(log, f"current {device}"))
    train(tmp_path / "run", train={"epochs": 1}, callbacks=[Look()])
    assert log == ["in current cpu", "fit", "out of current cpu"]


def test_batches_reach_a_device_through_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other copies wait for the device."""
    data = fk.load_data("synthetic", samples=40, min_length=5, max_length=5)
    pinned: list[tuple[int, ...]] = []

    def pin(x: Tensor) -> Tensor:
        pinned.append(tuple(x.shape))
        return x

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "copy_", lambda into, x, non_blocking: into)
    with FakeTensorMode(allow_non_fake_inputs=True):
        batch = data.train.batch(range(2)).to("cpu")
        on_device = batch.to("cuda:0")
        cuda_graph._fill(on_device, batch)
        count = 2 * len(batch.features) + 1
        assert len(pinned) == count
        cuda_graph._fill(on_device, on_device)
        cuda_graph._fill(batch, batch)
    assert len(pinned) == count
