"""Checks of the arguments of `length_aware_lstm` that hold for every backend."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops.arguments import check_lengths

GATES = {"lstm": 4, "gru": 3}


def check_arguments(
    input: Tensor,
    lengths: Tensor | None,
    weights: Sequence[Tensor],
    num_layers: int,
    bidirectional: bool,
    dropout_p: float,
    cell: str,
) -> None:
    """Raise DataError or ConfigError with the name of the first argument that does not fit."""
    if cell not in GATES:
        raise ConfigError(f"cell must be 'lstm' or 'gru', got {cell!r}")
    if num_layers < 1:
        raise ConfigError(f"num_layers must be at least 1, got {num_layers}")
    if not 0.0 <= dropout_p <= 1.0:
        raise ConfigError(f"dropout_p must be in [0, 1], got {dropout_p}")
    if input.dim() != 3:
        raise DataError(f"input must be (B, T, D), got {tuple(input.shape)}")
    if lengths is not None:
        check_lengths("lengths", lengths, "input", input, input.shape[1])
    _check_weights(weights, input, num_layers, 2 if bidirectional else 1, GATES[cell])


def _check_weights(
    weights: Sequence[Tensor], input: Tensor, num_layers: int, directions: int, gates: int
) -> None:
    expected = 4 * num_layers * directions
    if len(weights) != expected:
        raise DataError(
            f"weights must hold {expected} tensors (w_ih, w_hh, b_ih, b_hh for each of "
            f"{num_layers} layers x {directions} directions), got {len(weights)}"
        )
    hidden = weights[1].shape[-1]
    for i, weight in enumerate(weights):
        columns = input.shape[2] if i < 4 * directions else hidden * directions
        shape = [(gates * hidden, columns), (gates * hidden, hidden), (gates * hidden,)][
            min(i % 4, 2)
        ]
        if tuple(weight.shape) != shape:
            raise DataError(f"weights[{i}] must be {shape}, got {tuple(weight.shape)}")
        if weight.dtype != input.dtype:
            raise DataError(f"weights[{i}] is {weight.dtype} and input {input.dtype}; use one")
        if weight.device != input.device:
            raise DataError(f"weights[{i}] is on {weight.device} and input on {input.device}")
