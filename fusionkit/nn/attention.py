"""Attention blocks with bias-free projections, as MMLatch uses them (one head, no output layer)."""

from __future__ import annotations

from torch import Tensor, nn

from fusionkit.nn.dropout import dropout_seed
from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs


class ProjectedAttention(nn.Module):
    """Single-head scaled dot-product attention with learnt query, key and value projections.

    No bias, residual, normalisation or output projection (MMLatch, section 3; the released code
    scales by the input size, not by the attention size).

    Args:
        input_size: features of the sequence that gives keys and values.
        attention_size: size of the projections (default ``input_size``).
        query_size: features of the query sequence (default ``input_size``).
        dropout: on the attention weights, in [0, 1).
    """

    def __init__(
        self,
        input_size: int,
        attention_size: int | None = None,
        query_size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        attention_size = attention_size or input_size
        self.key = _projection(input_size, attention_size)
        self.query = _projection(query_size or input_size, attention_size)
        self.value = _projection(input_size, attention_size)
        self.scale = input_size**-0.5
        self.dropout = dropout

    def forward(
        self,
        source: Tensor,
        queries: Tensor | None = None,
        values: Tensor | None = None,
        *,
        key_lengths: Tensor | None = None,
        query_lengths: Tensor | None = None,
        bias: Tensor | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from ``queries`` (default: the source itself) to ``source``.

        Args:
            source: (B, Tk, input_size). queries: (B, Tq, query_size).
            values: (B, Tk, input_size), projected in place of the source.
            key_lengths, query_lengths: (B,) valid steps; rows beyond give zeros.
            bias: added to the scores, broadcastable to (B, 1, Tq, Tk).
            return_weights: also return the attention weights.

        Returns:
            (B, Tq, attention_size), and (B, Tq, Tk) with ``return_weights``.
        """
        dropout_p, seed = dropout_seed(self, self.dropout, source.device)
        query = self.query(source if queries is None else queries).unsqueeze(1)
        key = self.key(source).unsqueeze(1)
        value = self.value(source if values is None else values).unsqueeze(1)
        if return_weights:
            output, weights = cross_attention(
                query, key, value, key_lengths=key_lengths, query_lengths=query_lengths,
                scale=self.scale, dropout_p=dropout_p, seed=seed, bias=bias, return_weights=True,
            )  # fmt: skip
            return output.squeeze(1), weights.squeeze(1)
        output = cross_attention(
            query, key, value, key_lengths=key_lengths, query_lengths=query_lengths,
            scale=self.scale, dropout_p=dropout_p, seed=seed, bias=bias,
        )  # fmt: skip
        return output.squeeze(1)


class SymmetricAttention(nn.Module):
    """Attention in both directions between two sequences, each with its query as residual.

    S(p, q) of MMLatch (section 3, eq. 1): ``softmax(Q_q K_p^T / sqrt(d)) V_p + q`` and the same
    with p and q exchanged. All six projections are separate.

    Args:
        size: features of both sequences. dropout: on the attention weights.
    """

    def __init__(self, size: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.key_first, self.query_first, self.value_first = _projections(size)
        self.key_second, self.query_second, self.value_second = _projections(size)
        self.scale = size**-0.5
        self.dropout = dropout

    def forward(
        self,
        first: Tensor,
        second: Tensor,
        *,
        first_lengths: Tensor | None = None,
        second_lengths: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Attend both ways.

        Args:
            first: (B, T1, size). second: (B, T2, size).
            first_lengths, second_lengths: (B,) valid steps, as keys and as queries.
            bias: added to the scores of both directions, broadcastable to both.

        Returns:
            (B, T2, size): the second attends to the first; (B, T1, size): the reverse.
        """
        lengths = {"first_lengths": first_lengths, "second_lengths": second_lengths}
        pairs, dropout_p = self.pairs(first, second, **lengths)
        if bias is None:
            outputs = cross_attention_pairs(pairs, scale=self.scale, dropout_p=dropout_p)
        else:
            outputs = [
                cross_attention(
                    pair.query, pair.key, pair.value, key_lengths=pair.key_lengths,
                    query_lengths=pair.query_lengths, seed=pair.seed,
                    scale=self.scale, dropout_p=dropout_p, bias=bias,
                )
                for pair in pairs
            ]  # fmt: skip
        return outputs[0].squeeze(1) + second, outputs[1].squeeze(1) + first

    def pairs(
        self,
        first: Tensor,
        second: Tensor,
        *,
        first_lengths: Tensor | None = None,
        second_lengths: Tensor | None = None,
    ) -> tuple[tuple[AttentionPair, AttentionPair], float]:
        """What `forward` attends over, for calls that run several modules at once.

        Returns:
            The pair that reads the first and the pair that reads the second, with seeds drawn; and
            the dropout probability of this call.
        """
        dropout_p, seed = dropout_seed(self, self.dropout, first.device)
        to_first = AttentionPair(
            self.query_second(second).unsqueeze(1), self.key_first(first).unsqueeze(1),
            self.value_first(first).unsqueeze(1), first_lengths, second_lengths, seed,
        )  # fmt: skip
        dropout_p, seed = dropout_seed(self, self.dropout, first.device)
        to_second = AttentionPair(
            self.query_first(first).unsqueeze(1), self.key_second(second).unsqueeze(1),
            self.value_second(second).unsqueeze(1), second_lengths, first_lengths, seed,
        )  # fmt: skip
        return (to_first, to_second), dropout_p


def _projection(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=False)
    nn.init.xavier_uniform_(linear.weight)
    return linear


def _projections(size: int) -> tuple[nn.Linear, nn.Linear, nn.Linear]:
    return _projection(size, size), _projection(size, size), _projection(size, size)
