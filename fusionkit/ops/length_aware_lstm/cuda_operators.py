"""``fusionkit_cuda::lstm`` and its backward, with the schemas of the compiled CPU operators.

Products over all steps are torch's; between them ``lstm_steps`` (csrc/binding/cuda/lstm.cpp) runs
the recurrence of all strands, a direction of an LSTM each, together.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from fusionkit.ops.arguments import is_autocasting
from fusionkit.ops.cuda_runtime import EMULATED, define
from fusionkit.ops.length_aware_lstm.autograd import fake_backward, fake_forward
from fusionkit.ops.length_aware_lstm.cuda_plan import Plan, plan

EMULATED_BLOCKS = 12
"""Multiprocessors of the device that the tests' emulator stands for."""

# Of the smallest device that a compiled graph may run on, which cannot ask for its own.
_TRACED_BLOCKS = 48


def hidden_sizes(weights: Sequence[Tensor]) -> tuple[int, ...]:
    """Of each strand."""
    return tuple(int(w_hh.shape[1]) for w_hh in weights[1::4])


def blocks_at_once(like: Tensor) -> int:
    """Blocks that run at the same time on the tensor's device: one on each multiprocessor."""
    if EMULATED and like.is_cpu:
        return EMULATED_BLOCKS
    if torch.compiler.is_compiling() or not torch.cuda.device_count():
        return _TRACED_BLOCKS
    return int(torch.cuda.get_device_properties(like.device).multi_processor_count)


def _plan(like: Tensor, weights: Sequence[Tensor], backward: bool) -> Plan:
    return plan(hidden_sizes(weights), like.shape[0], blocks_at_once(like), backward)


def _forward(
    inputs: list[Tensor],
    lengths: Tensor | None,
    weights: list[Tensor],
    bidirectional: bool,
    save: bool,
) -> list[Tensor]:
    directions = 2 if bidirectional else 1
    projected = []
    with _without_autocast(inputs[0]):
        for strand, (w_ih, b_ih) in enumerate(zip(weights[::4], weights[2::4])):
            x = inputs[strand // directions]
            rows = torch.addmm(b_ih, x.reshape(-1, x.shape[2]), w_ih.t())
            projected.append(rows.view(*x.shape[:2], rows.shape[1]))
    chosen = _plan(inputs[0], weights, backward=False)
    results: list[Tensor] = torch.ops.fusionkit_cuda.lstm_steps.default(
        projected, weights[1::4], weights[3::4], lengths, bidirectional, save, chosen.numbers()
    )
    return results


def _backward(
    grad_outputs: list[Tensor],
    grad_states: list[Tensor],
    inputs: list[Tensor],
    lengths: Tensor | None,
    weights: list[Tensor],
    outputs: list[Tensor],
    steps: list[Tensor],
    bidirectional: bool,
    needs_inputs: int,
    needs_weights: bool,
) -> list[Tensor]:
    strands = len(weights) // 4
    share = strands // len(inputs)
    chosen = _plan(inputs[0], weights, backward=True)
    found = torch.ops.fusionkit_cuda.lstm_steps_backward.default(
        grad_outputs, grad_states, weights[1::4], lengths, outputs, steps, bidirectional,
        chosen.numbers(),
    )  # fmt: skip
    gates = [grad.flatten(0, 1) for grad in found[:strands]]
    previous = [h.flatten(0, 1) for h in found[strands:]]
    results = []
    with _without_autocast(inputs[0]):
        for i, x in enumerate(inputs):
            if needs_inputs >> i & 1:
                own = range(i * share, (i + 1) * share)
                first, *others = [(gates[strand], weights[4 * strand]) for strand in own]
                grad = torch.mm(*first)
                for other in others:
                    grad.addmm_(*other)
                results.append(grad.view(x.shape))
        if needs_weights:
            rows = [x.flatten(0, 1) for x in _without_padding(inputs, lengths)]
            for strand in range(strands):
                transposed = gates[strand].t()
                bias = gates[strand].sum(0)
                results += [
                    transposed @ rows[strand // share],
                    transposed @ previous[strand],
                    bias,
                    bias.clone(),
                ]
    return results


def _without_autocast(like: Tensor) -> torch.autocast | nullcontext[None]:
    if not is_autocasting(like):
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def _without_padding(inputs: list[Tensor], lengths: Tensor | None) -> list[Tensor]:
    """Zeros on padding: a NaN there would be in the sum over all steps, even times 0."""
    if lengths is None:
        return inputs
    time = torch.arange(inputs[0].shape[1], device=lengths.device)
    padded = (time >= lengths.unsqueeze(1)).unsqueeze(2)
    return [x.masked_fill(padded, 0.0) for x in inputs]


def _fake_steps(
    projected: list[Tensor],
    w_hh: list[Tensor],
    b_hh: list[Tensor],
    lengths: Tensor | None,
    bidirectional: bool,
    save: bool,
    plan: list[int],
) -> list[Tensor]:
    batch, time, _ = projected[0].shape
    directions = 2 if bidirectional else 1
    new, hidden = projected[0].new_empty, [w.shape[1] for w in w_hh]
    outputs = [new(batch, time, directions * h) for h in hidden[::directions]]
    states = [new(2, batch, h) for h in hidden]
    return [*outputs, *states, *(new(batch, time, 5 * h) for h in hidden if save)]


def _fake_steps_backward(
    grad_outputs: list[Tensor],
    grad_states: list[Tensor],
    w_hh: list[Tensor],
    lengths: Tensor | None,
    outputs: list[Tensor],
    steps: list[Tensor],
    bidirectional: bool,
    plan: list[int],
) -> list[Tensor]:
    batch, time, _ = outputs[0].shape
    new, hidden = outputs[0].new_empty, [w.shape[1] for w in w_hh]
    return [new(batch, time, columns * h) for columns in (4, 1) for h in hidden]


define(
    "lstm_steps(Tensor[] projected, Tensor[] w_hh, Tensor[] b_hh, Tensor? lengths,"
    " bool bidirectional, bool save, int[] plan) -> Tensor[]",
    _fake_steps,
)
define(
    "lstm_steps_backward(Tensor[] grad_outputs, Tensor[] grad_states, Tensor[] w_hh,"
    " Tensor? lengths, Tensor[] outputs, Tensor[] steps, bool bidirectional, int[] plan)"
    " -> Tensor[]",
    _fake_steps_backward,
)
define(
    "lstm(Tensor[] inputs, Tensor? lengths, Tensor[] weights, bool bidirectional, bool save)"
    " -> Tensor[]",
    fake_forward,
)
define(
    "lstm_backward(Tensor[] grad_outputs, Tensor[] grad_states, Tensor[] inputs,"
    " Tensor? lengths, Tensor[] weights, Tensor[] outputs, Tensor[] steps, bool bidirectional,"
    " int needs_inputs, bool needs_weights) -> Tensor[]",
    fake_backward,
)
_DEVICES = ("cuda", "cpu") if EMULATED else ("cuda",)
torch.library.impl("fusionkit_cuda::lstm", _DEVICES, _forward)
torch.library.impl("fusionkit_cuda::lstm_backward", _DEVICES, _backward)
