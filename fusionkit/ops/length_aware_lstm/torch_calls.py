"""torch's LSTM and GRU over padded batches and over packed steps, from zero initial states."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def run_dense(
    x: Tensor,  # (B, T, D)
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout_p: float = 0.0,
    training: bool = False,
    cell: str = "lstm",
) -> tuple[Tensor, list[Tensor]]:
    """Output (B, T, H * directions) and final states over all T steps, padding included."""
    weights = list(weights)
    start = _start(x, x.shape[0], weights, num_layers, bidirectional)
    dropout_p, train = _mode(x, weights, dropout_p, training)
    flags = (True, num_layers, dropout_p, train, bidirectional, True)
    if cell == "lstm":
        output, h, c = torch.lstm(x, (start, start), weights, *flags)
        return output, [h, c]
    output, h = torch.gru(x, start, weights, *flags)
    return output, [h]


def run_packed(
    data: Tensor,  # (steps of all samples, D)
    batch_sizes: Tensor,
    batch: int,
    weights: Sequence[Tensor],
    *,
    num_layers: int = 1,
    bidirectional: bool = False,
    dropout_p: float = 0.0,
    training: bool = False,
    cell: str = "lstm",
) -> tuple[Tensor, list[Tensor]]:
    """Outputs of the packed steps, and the final states in the order of the packed rows."""
    weights = list(weights)
    start = _start(data, batch, weights, num_layers, bidirectional)
    dropout_p, train = _mode(data, weights, dropout_p, training)
    flags = (True, num_layers, dropout_p, train, bidirectional)
    if cell == "lstm":
        output, h, c = torch.lstm(data, batch_sizes, (start, start), weights, *flags)
        return output, [h, c]
    output, h = torch.gru(data, batch_sizes, start, weights, *flags)
    return output, [h]


def _start(
    like: Tensor, batch: int, weights: Sequence[Tensor], num_layers: int, bidirectional: bool
) -> Tensor:
    slots = num_layers * (2 if bidirectional else 1)
    return like.new_zeros(slots, batch, weights[1].shape[1])


def _mode(
    x: Tensor, weights: Sequence[Tensor], dropout_p: float, training: bool
) -> tuple[float, bool]:
    """Dropout and the flag ``train``.

    cuDNN has a backward only for what it ran with the flag, in evaluation too; the flag alone
    drops nothing.
    """
    dropout_p = dropout_p if training else 0.0
    differentiable = torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights))
    return dropout_p, differentiable or dropout_p > 0.0
