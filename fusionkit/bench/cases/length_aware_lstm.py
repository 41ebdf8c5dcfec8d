"""`length_aware_lstm` as a bidirectional LSTM, beside packed and padded `nn.LSTM`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from fusionkit.bench.case import (
    BOTH,
    FORWARD,
    FULL,
    PARTIAL,
    Case,
    Contender,
    Inputs,
    Suite,
    Task,
    Work,
)
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.differentiable import differentiable
from fusionkit.bench.goals import BILSTM, PACKED_LSTM
from fusionkit.ops import force_backend, length_aware_lstm

BATCH, STEPS, HIDDEN = 32, 50, 100
FEATURES = (300, 74, 35)


def suite() -> Suite:
    """Each input size at full lengths and at 70 %."""
    return Suite(
        "length_aware_lstm",
        tuple(_case(size, variant) for size in FEATURES for variant in (FULL, PARTIAL)),
    )


def _case(size: int, variant: str) -> Case:
    valid = int(_lengths(variant).sum())
    over_padding = "" if variant == FULL else "its reverse direction starts in the padding"
    return Case(
        name=f"B{BATCH} T{STEPS} D{size} H{HIDDEN}",
        group=BILSTM,
        variant=variant,
        inputs=partial(_inputs, size, variant),
        reference=_reference,
        contenders=(
            Contender(PACKED_LSTM, _packed),
            Contender("padded nn.LSTM", _padded, not_comparable=over_padding),
            Contender("fusionkit", _ours, role="ours"),
        ),
        work={phase: bilstm_work(valid, size, HIDDEN, phase) for phase in (FORWARD, BOTH)},
        quick=size == FEATURES[-1],
    )


def bilstm_work(valid_steps: int, features: int, hidden: int, phase: str) -> Work:
    """The products of both directions over valid steps only; gates' functions are not counted.

    The backward does two products for each one of the forward. Every operand and result is moved
    once: forward reads input and weights and writes the output; backward reads input, weights,
    output and its gradient and writes the gradients of input and weights.
    """
    weights = 2 * 4 * hidden * (features + hidden + 2)
    flops = 2.0 * valid_steps * 2 * 4 * hidden * (features + hidden)
    inputs, outputs = valid_steps * features, valid_steps * 2 * hidden
    if phase == FORWARD:
        return Work(flops, 4.0 * (inputs + weights + outputs))
    return Work(3.0 * flops, 4.0 * (3 * inputs + 3 * weights + 3 * outputs))


def _lengths(variant: str) -> Tensor:
    if variant == PARTIAL:
        return forty_to_hundred_percent(STEPS, BATCH)
    return torch.full((BATCH,), STEPS)


def _inputs(size: int, variant: str) -> Inputs:
    lengths = _lengths(variant)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(BATCH, STEPS, size, generator=generator)
    x = x * (torch.arange(STEPS) < lengths[:, None])[:, :, None]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = {name: p.detach() for name, p in _module(size).named_parameters()}
    return Inputs({"input": x, **weights}, {"input": lengths})


def _module(size: int) -> nn.LSTM:
    return nn.LSTM(size, HIDDEN, batch_first=True, bidirectional=True)


def _loaded(inputs: Inputs) -> tuple[nn.LSTM, dict[str, Tensor]]:
    """The module with the given weights, and what gradients are taken of, by name."""
    x = inputs.leaves()["input"]
    module = _module(x.shape[2])
    module.load_state_dict({n: w for n, w in inputs.tensors.items() if n != "input"})
    return module, {"input": x, **dict(module.named_parameters())}


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    with force_backend("reference"):
        return _ours(inputs, phase).results()


def _packed(inputs: Inputs, phase: str) -> Task:
    module, leaves = _loaded(inputs)
    x, lengths = leaves["input"], inputs.lengths["input"]

    def run() -> Sequence[Tensor]:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        output, _ = module(packed)
        return [pad_packed_sequence(output, batch_first=True, total_length=STEPS)[0]]

    return differentiable(run, leaves, phase)


def _padded(inputs: Inputs, phase: str) -> Task:
    module, leaves = _loaded(inputs)
    x = leaves["input"]
    return differentiable(lambda: [module(x)[0]], leaves, phase)


def _ours(inputs: Inputs, phase: str) -> Task:
    leaves, lengths = inputs.leaves(), inputs.lengths["input"]
    x, *weights = leaves.values()
    return differentiable(
        lambda: [length_aware_lstm(x, lengths, weights, bidirectional=True)[0]], leaves, phase
    )
