"""Gradients of an LSTM layer's kernels, and the shapes of their operators for tracing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops.extension import AVAILABLE
from fusionkit.ops.length_aware_lstm.reference import run_reference


class LSTMLayer(torch.autograd.Function):
    """The forward and backward of a namespace of operators; gates and cells are kept in between.

    With ``create_graph=True`` the backward runs the reference instead, for second derivatives.
    """

    @staticmethod
    def forward(
        ctx: Any,
        namespace: str,
        lengths: Tensor | None,
        bidirectional: bool,
        count: int,
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        inputs, weights = list(tensors[:count]), list(tensors[count:])
        results = getattr(torch.ops, namespace).lstm.default(
            inputs, lengths, weights, bidirectional, True
        )
        strands = len(weights) // 4
        outputs, steps = results[:count], results[count + strands :]
        ctx.save_for_backward(lengths, *tensors, *outputs, *steps)
        ctx.namespace, ctx.bidirectional = namespace, bidirectional
        ctx.count, ctx.strands = count, strands
        ctx.set_materialize_grads(False)
        return tuple(results[: count + strands])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        count, strands = ctx.count, ctx.strands
        lengths, *saved = ctx.saved_tensors
        inputs, weights = saved[:count], saved[count : count + 4 * strands]
        outputs, steps = saved[count + 4 * strands : -strands], saved[-strands:]
        needed = ctx.needs_input_grad[4:]
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            # The recurrent networks of cuDNN have no second derivatives.
            with torch.backends.cudnn.flags(enabled=False):  # type: ignore[no-untyped-call]
                found = _differentiable(grads, inputs, lengths, weights, needed, ctx.bidirectional)
            return (None, None, None, None, *found)
        grad_outputs = [
            torch.zeros_like(output) if grad is None else grad
            for output, grad in zip(outputs, grads)
        ]
        grad_states: list[Tensor] = []
        if any(grad is not None for grad in grads[count:]):
            grad_states = [
                _zero_state(steps[s]) if grad is None else grad
                for s, grad in enumerate(grads[count:])
            ]
        bits = sum(1 << i for i, need in enumerate(needed[:count]) if need)
        any_weight = any(needed[count:])
        gradients = iter(
            getattr(torch.ops, ctx.namespace).lstm_backward.default(
                grad_outputs, grad_states, inputs, lengths, weights, outputs, steps,
                ctx.bidirectional, bits, any_weight,
            )
        )  # fmt: skip
        for_inputs = [next(gradients) if need else None for need in needed[:count]]
        for_weights = list(gradients) if any_weight else [None] * (4 * strands)
        return (None, None, None, None, *for_inputs, *for_weights)


def _zero_state(steps: Tensor) -> Tensor:
    return steps.new_zeros(2, steps.shape[0], steps.shape[2] // 5)


def _differentiable(
    grads: Sequence[Tensor | None],
    inputs: Sequence[Tensor],
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    needed: Sequence[bool],
    bidirectional: bool,
) -> list[Tensor | None]:
    """The gradients that are needed, from the reference, so that they have gradients themselves."""
    # Views keep the inputs apart where one tensor is given twice.
    views = [tensor.view_as(tensor) for tensor in (*inputs, *weights)]
    share = len(weights) // len(inputs)
    outputs, states = [], []
    for i, x in enumerate(views[: len(inputs)]):
        first = len(inputs) + i * share
        output, state = run_reference(
            x, lengths, views[first : first + share], bidirectional=bidirectional, need_state=True
        )
        outputs.append(output)
        assert isinstance(state, tuple)
        states += list(torch.stack(state).unbind(1))
    results = [(r, g) for r, g in zip((*outputs, *states), grads) if g is not None]
    wanted = [view for view, need in zip(views, needed) if need]
    found = iter(
        torch.autograd.grad(
            [r for r, _ in results], wanted, [g for _, g in results],
            create_graph=True, materialize_grads=True,
        )
    )  # fmt: skip
    return [next(found) if need else None for need in needed]


def fake_forward(
    inputs: list[Tensor],
    lengths: Tensor | None,
    weights: list[Tensor],
    bidirectional: bool,
    save: bool,
) -> list[Tensor]:
    """Outputs, one for each input; states and, with ``save``, steps, one for each strand."""
    directions = 2 if bidirectional else 1
    outputs, states, steps = [], [], []
    for i, x in enumerate(inputs):
        batch, time, _ = x.shape
        hidden = weights[4 * i * directions + 1].shape[1]
        outputs.append(x.new_empty(batch, time, hidden * directions))
        states += [x.new_empty(2, batch, hidden) for _ in range(directions)]
        steps += [x.new_empty(batch, time, 5 * hidden) for _ in range(directions if save else 0)]
    return [*outputs, *states, *steps]


def fake_backward(
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
    """Gradients of the inputs whose bit is set, and of all weights or none."""
    wanted = [x for i, x in enumerate(inputs) if needs_inputs >> i & 1]
    return [t.new_empty(t.shape) for t in (*wanted, *(weights if needs_weights else ()))]


if AVAILABLE:
    torch.library.register_fake("fusionkit::lstm", fake_forward)
    torch.library.register_fake("fusionkit::lstm_backward", fake_backward)
