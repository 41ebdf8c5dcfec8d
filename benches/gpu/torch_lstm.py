"""What PyTorch has for a group of LSTMs: cuDNN one after the other, on streams, and packed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fusionkit.bench.case import FORWARD, Contender, Inputs, Task
from fusionkit.bench.differentiable import differentiable

ONE_BY_ONE, PACKED = "cuDNN one by one", "cuDNN packed"
_REVERSED = "its reverse direction starts in the padding"
_OVER_PADDING = "it computes over the padding"

Run = Callable[[Sequence[nn.LSTM], Sequence[Tensor]], list[Tensor]]


def lstm_contenders(
    bidirectional: bool, lengths: Tensor, device: torch.device, partly: bool
) -> list[Contender]:
    """One after the other, on streams of their own, without TF32, and packed.

    Args:
        lengths: (B,), on the CPU, where packing needs them. partly: whether some are shorter.
    """
    padding = "" if not partly else _REVERSED if bidirectional else _OVER_PADDING
    one_by_one = partial(_prepare, _one_by_one, bidirectional)
    found = [Contender(ONE_BY_ONE, one_by_one, not_comparable=padding)]
    if device.type == "cuda":
        on_streams = partial(_prepare, _on_streams, bidirectional)
        exact = partial(_without_tf32, one_by_one)
        found += [
            Contender("cuDNN on streams", on_streams, not_comparable=padding),
            Contender("cuDNN without TF32", exact, not_comparable=padding),
        ]
    packed = partial(_prepare, partial(_packed, lengths), bidirectional)
    return [*found, Contender(PACKED, packed)]


def split(leaves: Mapping[str, Tensor]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Inputs ``input K``, and the weights ``NAME K`` of each by the names that `nn.LSTM` has."""
    inputs = [x for name, x in leaves.items() if name.startswith("input ")]
    weights: list[dict[str, Tensor]] = [{} for _ in inputs]
    for full_name, tensor in leaves.items():
        name, _, index = full_name.rpartition(" ")
        if name != "input":
            weights[int(index)][name] = tensor
    return inputs, weights


def _prepare(run: Run, bidirectional: bool, inputs: Inputs, phase: str) -> Task:
    """With modules, which keep their weights in one piece: cuDNN would copy separate ones."""
    leaves = inputs.leaves()
    xs, weights = split(leaves)
    modules = []
    for index, (x, own) in enumerate(zip(xs, weights)):
        lstm = nn.LSTM(
            x.shape[2],
            own["weight_hh_l0"].shape[1],
            batch_first=True,
            bidirectional=bidirectional,
            device=x.device,
            dtype=x.dtype,
        )
        lstm.load_state_dict(own)
        modules.append(lstm.train(phase != FORWARD))
        leaves |= {f"{name} {index}": p for name, p in lstm.named_parameters()}
    return differentiable(lambda: run(modules, xs), leaves, phase)


def _one_by_one(modules: Sequence[nn.LSTM], inputs: Sequence[Tensor]) -> list[Tensor]:
    return [lstm(x)[0] for lstm, x in zip(modules, inputs)]


def _packed(lengths: Tensor, modules: Sequence[nn.LSTM], inputs: Sequence[Tensor]) -> list[Tensor]:
    outputs = []
    for lstm, x in zip(modules, inputs):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, _ = lstm(packed)
        outputs.append(pad_packed_sequence(output, batch_first=True, total_length=x.shape[1])[0])
    return outputs


def _on_streams(modules: Sequence[nn.LSTM], inputs: Sequence[Tensor]) -> list[Tensor]:
    streams = _streams(len(modules))
    outputs = []
    for stream, lstm, x in zip(streams, modules, inputs):
        with _beside(stream):
            outputs.append(lstm(x)[0])
    for stream, output in zip(streams, outputs):
        torch.cuda.current_stream().wait_stream(stream)
        output.record_stream(torch.cuda.current_stream())
    return outputs


_made: list[torch.cuda.Stream] = []


def _streams(count: int) -> list[torch.cuda.Stream]:
    """The same ones at every call."""
    while len(_made) < count:
        _made.append(torch.cuda.Stream())  # type: ignore[no-untyped-call]
    return _made[:count]


@contextmanager
def _beside(stream: torch.cuda.Stream) -> Iterator[None]:
    """Work on a stream that first waits for what was asked for so far."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield


def _without_tf32(prepare: Callable[[Inputs, str], Task], inputs: Inputs, phase: str) -> Task:
    task = prepare(inputs, phase)

    def run() -> object:
        with exact_cudnn():
            return task.run()

    def results() -> dict[str, Tensor]:
        with exact_cudnn():
            return task.results()

    return Task(run, results)


@contextmanager
def exact_cudnn() -> Iterator[None]:
    """cuDNN computes float32 in float32, forward and backward; by default it takes TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
