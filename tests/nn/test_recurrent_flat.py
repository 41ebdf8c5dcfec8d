"""Weights in one buffer for cuDNN: made up on the CPU, and on a device."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.nn import AttentiveRNN, LengthAwareRNN
from fusionkit.ops import force_backend

KINDS = [("lstm", 1, True), ("lstm", 2, False), ("gru", 2, True)]


def buffers(module: nn.Module) -> set[int]:
    return {p.untyped_storage().data_ptr() for p in module.parameters()}


def make(cell: Any, num_layers: int, bidirectional: bool) -> LengthAwareRNN:
    torch.manual_seed(0)
    return LengthAwareRNN(5, 3, num_layers=num_layers, bidirectional=bidirectional, cell=cell)


class Flattener:
    """In place of cuDNN's: the weights one after the other."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []

    def __call__(self, weights: list[Tensor], *arguments: Any) -> None:
        self.calls.append([[id(w) for w in weights], *arguments])
        buffer = torch.cat([w.flatten() for w in weights])
        for weight, start in zip(weights, _starts(weights)):
            weight.set_(buffer[start : start + weight.numel()].view_as(weight))  # type: ignore[call-overload]


def _starts(weights: list[Tensor]) -> list[int]:
    sizes = torch.tensor([0, *(w.numel() for w in weights)])
    return sizes.cumsum(0)[:-1].tolist()


@pytest.fixture
def flattener(monkeypatch: pytest.MonkeyPatch) -> Flattener:
    """As if tensors on the CPU were on a CUDA device that has cuDNN."""
    found = Flattener()
    rnn: Any = torch.backends.cudnn.rnn
    monkeypatch.setattr(Tensor, "is_cuda", property(lambda x: x.device.type == "cpu"))
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda x: x.is_cuda)
    monkeypatch.setattr(rnn, "get_cudnn_mode", lambda mode: mode)
    monkeypatch.setattr(torch, "_use_cudnn_rnn_flatten_weight", lambda: True)
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", found)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_as_torch_does_it_and_the_parameters_stay(
    flattener: Flattener, kind: tuple[str, int, bool]
) -> None:
    cell, num_layers, bidirectional = kind
    torch_class = nn.LSTM if cell == "lstm" else nn.GRU
    theirs = torch_class(5, 3, num_layers, batch_first=True, bidirectional=bidirectional)
    rnn, plain = make(*kind), make(*kind)
    parameters = list(rnn.parameters())
    optimizer = torch.optim.SGD(rnn.parameters(), lr=1.0)
    flattener.calls.clear()
    assert rnn.double() is rnn
    theirs.double()
    (ids, *ours), (_, *torchs) = flattener.calls
    assert ours == torchs and ids == [id(p) for p in parameters]
    assert len(buffers(rnn)) == 1
    for (name, p), before, old in zip(rnn.named_parameters(), parameters, plain.parameters()):
        assert p is before and p.equal(old.double()) and p.shape == old.shape, name
    assert list(rnn.state_dict()) == list(plain.state_dict())

    # Steps and loaded weights arrive in the buffer, and a copy is one of its own.
    where = buffers(rnn)
    rnn(torch.ones(2, 4, 5, dtype=torch.float64))[0].sum().backward()
    optimizer.step()
    twin = copy.deepcopy(rnn)
    rnn.load_state_dict(plain.state_dict())
    assert buffers(rnn) == where and not buffers(twin) & where
    assert all(p.equal(old.double()) for p, old in zip(rnn.parameters(), plain.parameters()))
    assert not any(p.equal(q) for p, q in zip(twin.parameters(), rnn.parameters()))


def test_what_is_together_is_not_moved_again(flattener: Flattener) -> None:
    block = AttentiveRNN(5, 3).double()
    where, count = buffers(block.rnn), len(flattener.calls)
    block.to(torch.float64)
    assert buffers(block.rnn) == where and len(flattener.calls) == count
    block.float()
    assert buffers(block.rnn) != where and len(buffers(block.rnn)) == 1


def test_weights_that_torch_leaves_alone(flattener: Flattener) -> None:
    """Of other parts than parameters, and one in two places."""
    rnn = make("lstm", 2, False)
    rnn.bias_hh_l1 = rnn.bias_ih_l1
    flattener.calls.clear()
    rnn.double()
    nn.utils.parametrize.register_parametrization(rnn, "weight_hh_l0", nn.Identity())
    rnn.float()
    assert not flattener.calls


def test_on_the_cpu_every_weight_has_its_own_memory() -> None:
    rnn = make("lstm", 2, True).double()
    assert len(buffers(rnn)) == len(list(rnn.parameters()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_on_a_device(kind: tuple[str, int, bool]) -> None:
    rnn, plain = make(*kind), make(*kind)
    x = torch.randn(2, 4, 5)
    want = plain(x)[0]
    rnn.to("cuda")
    where = buffers(rnn)
    assert len(where) == 1
    with force_backend("flip"), warnings.catch_warnings():
        warnings.filterwarnings("error", "RNN module weights are not part of single contiguous")
        found = rnn(x.to("cuda"))[0]
    torch.testing.assert_close(found.cpu(), want, rtol=1e-3, atol=1e-4)
    found.sum().backward()
    rnn.to("cuda")
    assert buffers(rnn) == where and len(buffers(rnn.cpu())) == len(list(rnn.parameters()))
