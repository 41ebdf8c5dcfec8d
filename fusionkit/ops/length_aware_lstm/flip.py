"""Exact bidirectional LSTM and GRU on padded batches, by reversal inside each sequence.

A recurrent network is causal, so padding at the end of a sequence cannot reach its valid steps.
The reverse direction gets the same by running forward over ``x[b, lengths[b] - 1 - t]``, which
keeps the padding at the end; its outputs are turned back in the same way. The dense kernels take
the place of the packed ones, which run one small product a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.ops.length_aware_lstm.torch_calls import run_dense


def run_flip(
    input: Tensor,  # (B, T, D), B and T >= 1
    lengths: Tensor | None,  # (B,)
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout_p: float = 0.0,
    training: bool = False,
    cell: str = "lstm",
    need_state: bool = False,
) -> tuple[Tensor, Tensor | tuple[Tensor, Tensor] | None]:
    """Takes the checked arguments of `length_aware_lstm`, as far as `flip_reasons` is empty."""
    if lengths is None or (not need_state and _all_full(lengths, input.shape[1])):
        output, state = run_dense(
            input, weights, num_layers=num_layers, bidirectional=bidirectional,
            dropout_p=dropout_p, training=training, cell=cell,
        )  # fmt: skip
        if not need_state:
            return output, None
        return output, ((state[0], state[1]) if cell == "lstm" else state[0])

    batch, steps, _ = input.shape
    directions = 2 if bidirectional else 1
    time = torch.arange(steps, device=input.device)
    padded = (time >= lengths.unsqueeze(1)).unsqueeze(2)
    order = _reversal(lengths, steps)
    last = (lengths - 1).clamp(min=0)
    samples = torch.arange(batch, device=input.device)
    hidden = []
    x = input.masked_fill(padded, 0.0)
    for layer in range(num_layers):
        if layer:
            x = F.dropout(x, dropout_p, training)
        outputs = []
        for direction in range(directions):
            first = 4 * (layer * directions + direction)
            ordered = _reorder(x, order) if direction else x
            output, _ = run_dense(ordered, weights[first : first + 4], cell=cell)
            if need_state:
                hidden.append(output[samples, last])
            outputs.append(_reorder(output, order) if direction else output)
        x = torch.cat(outputs, dim=2) if bidirectional else outputs[0]
    output = x.masked_fill(padded, 0.0)
    if not need_state:
        return output, None
    return output, torch.stack(hidden).masked_fill((lengths == 0).unsqueeze(1), 0.0)


def flip_reasons(
    input: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout_p: float = 0.0,
    training: bool = False,
    cell: str = "lstm",
    need_state: bool = False,
) -> list[str]:
    """Why these arguments cannot run on padded batches."""
    if need_state and cell == "lstm" and lengths is not None:
        return ["need_state: a padded LSTM call does not give the cell state at each length"]
    return []


def _all_full(lengths: Tensor, steps: int) -> bool:
    # Elsewhere the answer would cost a synchronisation or a graph break.
    if lengths.device.type != "cpu" or torch.compiler.is_compiling():
        return False
    return int(lengths.min()) == steps


def _reversal(lengths: Tensor, steps: int) -> Tensor:
    """(B*T,) indices of flattened rows: each sequence reversed, its padding left in place."""
    time = torch.arange(steps, device=lengths.device)
    ends = lengths.unsqueeze(1)
    within = torch.where(time < ends, ends - 1 - time, time)
    offsets = torch.arange(len(lengths), device=lengths.device).unsqueeze(1) * steps
    return (within + offsets).flatten()


def _reorder(x: Tensor, order: Tensor) -> Tensor:
    """(B, T, D) with its B*T rows in another order."""
    reordered: Tensor = _Reorder.apply(x, order)  # type: ignore[no-untyped-call]
    return reordered


class _Reorder(torch.autograd.Function):
    """Row permutation that is its own inverse, so the gradient is a gather and not a scatter."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor) -> Tensor:
        ctx.save_for_backward(order)
        return x.flatten(0, 1).index_select(0, order).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (order,) = ctx.saved_tensors
        return _reorder(grads[0], order), None
