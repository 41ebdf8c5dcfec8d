"""Recurrent networks over padded batches that treat every sequence by its own length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fusionkit.nn.attention import ProjectedAttention
from fusionkit.nn.dropout import Dropout
from fusionkit.ops.length_aware_lstm import length_aware_lstm, length_aware_lstm_group

Cell = Literal["lstm", "gru"]
Merge = Literal["concat", "sum"]


class LengthAwareRNN(nn.Module):
    """LSTM or GRU that equals `torch.nn.LSTM` on packed sequences, without packing.

    The parameters have the names and layouts of `torch.nn.LSTM` and `torch.nn.GRU`, so that their
    state dictionaries load.

    Args:
        input_size, hidden_size: as in torch. num_layers: stacked layers.
        bidirectional: run both directions. cell: ``lstm`` or ``gru``.
        dropout: between the layers, in training.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = False,
        cell: Cell = "lstm",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bidirectional, self.cell, self.dropout = bidirectional, cell, dropout
        template = self._torch_module()
        self._names = list(dict(template.named_parameters()))
        for name, parameter in template.named_parameters():
            self.register_parameter(name, parameter)

    def _torch_module(self, device: str | None = None) -> Any:
        torch_class: Any = nn.LSTM if self.cell == "lstm" else nn.GRU
        return torch_class(
            self.input_size, self.hidden_size, self.num_layers,
            batch_first=True, bidirectional=self.bidirectional, device=device,
        )  # fmt: skip

    def _apply(self, fn: Any, recurse: bool = True) -> LengthAwareRNN:
        """What ``to`` and ``cuda`` call; it also puts the weights into one buffer for cuDNN.

        Of weights that lie apart cuDNN makes a copy at every call.
        """
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        weights = [self._parameters.get(name) for name in self._names]
        if any(weight is None or not weight.is_cuda for weight in weights):
            return self
        # Those that are together stay where they are: a captured graph holds their addresses.
        if len({weight.untyped_storage()._cdata for weight in weights if weight is not None}) > 1:
            # torch's module knows the layout, and when it may be; the parameters stay the same.
            theirs = self._torch_module("meta")
            for name, weight in zip(self._names, weights):
                setattr(theirs, name, weight)
            theirs.flatten_parameters()
        return self

    @property
    def output_size(self) -> int:
        """Features of the output: both directions side by side."""
        return self.hidden_size * (2 if self.bidirectional else 1)

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, *, need_state: bool = False
    ) -> tuple[Tensor, Any]:
        """Run over (B, T, input_size) with ``lengths`` (B,) in [0, T].

        Returns:
            (B, T, output_size), zero on padding, and the final state in torch's layout (None
            unless ``need_state``).
        """
        result: tuple[Tensor, Any] = length_aware_lstm(
            x, lengths, self.ordered_weights(),
            num_layers=self.num_layers, bidirectional=self.bidirectional, cell=self.cell,
            dropout_p=self.dropout, training=self.training, need_state=need_state,
        )  # fmt: skip
        return result

    def ordered_weights(self) -> list[Tensor]:
        """The parameters in the order of torch's, as the operators take them."""
        return [getattr(self, name) for name in self._names]


def run_together(
    rnns: Sequence[LengthAwareRNN], inputs: Sequence[Tensor], lengths: Tensor | None = None
) -> list[Tensor]:
    """What ``rnn(x, lengths)[0]`` gives for each, from one call where that is possible.

    It is possible for LSTMs of one layer that all are bidirectional or all not, over inputs
    (B, T, D) of one B and T, each with a D of its own. Hooks of the modules do not run then.

    Args:
        rnns, inputs: one input (B, T, D) for each. lengths: (B,) in [0, T], shared.

    Returns:
        One output (B, T, output_size) for each.
    """
    kinds = {(rnn.cell, rnn.num_layers, rnn.bidirectional) for rnn in rnns}
    one_kind = kinds in ({("lstm", 1, False)}, {("lstm", 1, True)})
    # A set of sizes would make them constants in an exported program.
    if one_kind and all(x.shape[:2] == inputs[0].shape[:2] for x in inputs):
        return length_aware_lstm_group(
            inputs, lengths, [rnn.ordered_weights() for rnn in rnns],
            bidirectional=rnns[0].bidirectional,
        )  # fmt: skip
    return [rnn(x, lengths)[0] for rnn, x in zip(rnns, inputs)]


class AttentiveRNN(nn.Module):
    """Recurrent network, dropout, merge of the directions, self-attention (MMLatch, section 3).

    Args:
        input_size: features of the input. hidden_size: of one direction.
        merge: sum or concatenate the directions. dropout: on the unmerged output and on the
            attention weights. residual: add the attention's input to its output (MMLatch: no).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        num_layers: int = 1,
        bidirectional: bool = True,
        cell: Cell = "lstm",
        merge: Merge = "sum",
        dropout: float = 0.0,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.rnn = LengthAwareRNN(
            input_size, hidden_size, num_layers=num_layers, bidirectional=bidirectional, cell=cell
        )
        self.merge: Merge = merge if bidirectional else "concat"
        self.dropout = Dropout(dropout)
        self.output_size = hidden_size if self.merge == "sum" else self.rnn.output_size
        self.attention = ProjectedAttention(self.output_size, dropout=dropout)
        self.residual = residual

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, *, keep_padded_queries: bool = False
    ) -> Tensor:
        """Encode (B, T, input_size) to (B, T, output_size).

        Padded steps give zeros; with ``keep_padded_queries`` they give what the released MMLatch
        computes there, the mean of the values over the valid steps.
        """
        hidden = self.rnn(x, lengths)[0]
        return self.attend(hidden, lengths, keep_padded_queries=keep_padded_queries)

    def attend(
        self, hidden: Tensor, lengths: Tensor | None = None, *, keep_padded_queries: bool = False
    ) -> Tensor:
        """All that comes after ``rnn``, from its output (B, T, hidden_size * directions)."""
        output = merge_directions(self.dropout(hidden), self.merge)
        query_lengths = None if keep_padded_queries else lengths
        attended: Tensor = self.attention(output, key_lengths=lengths, query_lengths=query_lengths)
        return attended + output if self.residual else attended


def merge_directions(output: Tensor, how: Merge) -> Tensor:
    """Both directions side by side (..., 2H), summed to (..., H) or left as they are."""
    if how == "concat":
        return output
    forward, backward = output.chunk(2, dim=-1)
    return forward + backward


def last_step(
    output: Tensor, lengths: Tensor, *, bidirectional: bool, sort_lengths: bool = False
) -> Tensor:
    """Last valid output of the forward direction beside step 0 of the backward direction.

    Args:
        output: (B, T, H) or, with both directions side by side, (B, T, 2H). lengths: (B,) >= 1.
        sort_lengths: take row b at the b-th longest length, as the released MMLatch does by
            mistake.

    Returns:
        (B, H) or (B, 2H).
    """
    if sort_lengths:
        lengths = lengths.sort(descending=True).values
    rows = torch.arange(len(output), device=output.device)
    last = output[rows, lengths - 1]
    if not bidirectional:
        return last
    hidden = output.shape[-1] // 2
    return torch.cat([last[:, :hidden], output[:, 0, hidden:]], dim=-1)
