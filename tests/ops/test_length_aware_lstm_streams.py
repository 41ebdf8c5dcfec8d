"""LSTMs on several CUDA streams: on a device, or the order of their work with streams made up."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor, nn

from fusionkit.ops import force_backend, length_aware_lstm_group
from fusionkit.ops.length_aware_lstm.streams import MOST_STREAMS, run_streams, streams_reasons

MODULE = importlib.import_module("fusionkit.ops.length_aware_lstm.streams")


class FakeStream:
    """Writes down what it is asked for."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def record_event(self) -> str:
        self.log.append(f"{self.name} records")
        return f"{self.name} at {len(self.log)}"

    def wait_event(self, event: str) -> None:
        self.log.append(f"{self.name} waits for {event}")


@pytest.mark.parametrize("count", [2, MOST_STREAMS + 1])
def test_all_begin_behind_the_current_stream_and_it_waits_for_all(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    log: list[str] = []
    current = FakeStream("current", log)
    others = [FakeStream(f"other {i}", log) for i in range(MOST_STREAMS)]

    @contextmanager
    def on(stream: FakeStream) -> Iterator[None]:
        log.append(f"on {stream.name}")
        yield

    def record(x: Tensor, stream: FakeStream) -> None:
        log.append(f"{tuple(x.shape)} kept for {stream.name}")

    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: current)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(Tensor, "record_stream", record)
    monkeypatch.setattr(MODULE, "_streams", lambda device: others)
    weights = [[w.detach() for w in nn.LSTM(3, 2).parameters()] for _ in range(count)]
    inputs = [torch.randn(2, 4, 3) for _ in range(count)]
    lengths = torch.tensor([4, 1])
    outputs = run_streams(inputs, lengths, weights)
    with force_backend("reference"):
        for a, b in zip(outputs, length_aware_lstm_group(inputs, lengths, weights)):
            torch.testing.assert_close(a, b)
    used = min(count, MOST_STREAMS)
    begin = ["current records", *(f"other {i} waits for current at 1" for i in range(used))]
    work = []
    for i in range(count):
        other = f"other {i % MOST_STREAMS}"
        work += [f"on {other}", f"(2, 4, 3) kept for {other}", "(2, 4, 2) kept for current"]
    assert log[: len(begin)] == begin
    assert log[len(begin) : len(begin) + len(work)] == work
    end = log[len(begin) + len(work) :]
    assert end[::2] == [f"other {i} records" for i in range(used)]
    assert all(f"current waits for other {i} at" in line for i, line in enumerate(end[1::2]))


def test_what_it_does_not_take() -> None:
    x = torch.zeros(1, 2, 3)
    assert streams_reasons([x, x], None, []) == ["an input is on cpu, not on a CUDA device"]
    assert "there is one LSTM only" in streams_reasons([x], None, [])


@pytest.mark.skipif(not torch.cuda.device_count(), reason="no CUDA device is there")
def test_on_a_device() -> None:
    """The results of one after the other, also from a captured graph."""
    torch.manual_seed(0)
    modules = [nn.LSTM(5 + i, 33, bidirectional=True, device="cuda") for i in range(4)]
    weights = [list(m.parameters()) for m in modules]
    inputs = [torch.randn(8, 20, m.input_size, device="cuda").requires_grad_() for m in modules]
    lengths = torch.randint(21, (8,), device="cuda")
    leaves = [*inputs, *(w for own in weights for w in own)]

    def step() -> list[Tensor]:
        outputs = length_aware_lstm_group(inputs, lengths, weights, bidirectional=True)
        total = torch.stack([output.sin().sum() for output in outputs]).sum()
        return [*outputs, *torch.autograd.grad(total, leaves)]

    with force_backend("flip"):
        want = step()
    with force_backend("streams"):
        for _ in range(3):
            for a, b in zip(step(), want):
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = step()
        graph.replay()
        for a, b in zip(found, want):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
