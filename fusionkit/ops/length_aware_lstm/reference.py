"""LSTM and GRU over packed sequences: the definition that other backends are tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from fusionkit.ops.length_aware_lstm.torch_calls import run_packed

State = Tensor | tuple[Tensor, Tensor]


def run_reference(
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
) -> tuple[Tensor, State | None]:
    """Takes the checked arguments of `length_aware_lstm`."""
    batch, steps, _ = input.shape
    if lengths is None:
        lengths = torch.full((batch,), steps, dtype=torch.int64, device=input.device)
    # A packed sequence cannot be empty: rows of length 0 run one step over zeros instead.
    no_steps = (lengths == 0).unsqueeze(1)
    input = input.masked_fill(no_steps.unsqueeze(2), 0.0)
    packed = pack_padded_sequence(
        input, lengths.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    data, state = run_packed(
        packed.data, packed.batch_sizes, batch, weights, num_layers=num_layers,
        bidirectional=bidirectional, dropout_p=dropout_p, training=training, cell=cell,
    )  # fmt: skip
    output, _ = pad_packed_sequence(
        PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices),
        batch_first=True,
        total_length=steps,
    )
    output = output.masked_fill(no_steps.unsqueeze(2), 0.0)
    if not need_state:
        return output, None
    order = packed.unsorted_indices
    assert order is not None
    hidden = [h.index_select(1, order).masked_fill(no_steps, 0.0) for h in state]
    return output, ((hidden[0], hidden[1]) if cell == "lstm" else hidden[0])


def reference_reasons(*args: object, **kwargs: object) -> list[str]:
    """The reference takes everything."""
    return []
