"""LSTMs on the kernels of a namespace of operators: ``lstm`` and ``lstm_backward`` do one layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.ops.arguments import apart
from fusionkit.ops.length_aware_lstm.autograd import LSTMLayer

# The gradients that are needed are told to the kernels by the bits of a 64-bit number.
MAX_INPUTS = 62


def run_layers(
    namespace: str,
    input: Tensor,  # (B, T, D)
    lengths: Tensor | None,  # (B,)
    weights: Sequence[Tensor],
    num_layers: int,
    bidirectional: bool,
    dropout_p: float,
    training: bool,
    need_state: bool,
) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """Layers on top of each other, as `length_aware_lstm` has them."""
    share = len(weights) // num_layers
    states = []
    x = input
    for layer in range(num_layers):
        if layer:
            x = F.dropout(x, dropout_p, training)
        own = weights[layer * share : (layer + 1) * share]
        (x,), state = run_layer(namespace, [x], lengths, own, bidirectional)
        states += state
    if not need_state:
        return x, None
    h_n, c_n = torch.stack(states, dim=1).unbind(0)
    return x, (h_n, c_n)


def run_layer(
    namespace: str,
    inputs: Sequence[Tensor],  # each (B, T, D) with a D of its own
    lengths: Tensor | None,  # (B,)
    weights: Sequence[Tensor],  # w_ih, w_hh, b_ih, b_hh of each direction of each input
    bidirectional: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """One layer over each input.

    Returns:
        For each input its output (B, T, H * directions), and for each direction of each input its
        final h and c (2, B, H).
    """
    inputs, weights = list(inputs), list(weights)
    needs_gradient = any(t.requires_grad for t in (*inputs, *weights))
    if torch.is_grad_enabled() and needs_gradient:
        results = LSTMLayer.apply(  # type: ignore[no-untyped-call]
            namespace, lengths, bidirectional, len(inputs), *apart([*inputs, *weights])
        )
    else:
        results = getattr(torch.ops, namespace).lstm.default(
            inputs, lengths, weights, bidirectional, False
        )
    return list(results[: len(inputs)]), list(results[len(inputs) :])
