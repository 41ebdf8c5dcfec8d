"""Pre-norm transformers from one sequence to another (MulT) or within one, with lengths.

Several of them run together: the attentions of all at one depth are one call of the operator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.errors import ConfigError
from fusionkit.nn.dropout import Dropout, dropout_seed
from fusionkit.nn.positions import Positions, Tables, positions_for
from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs

Heads = tuple[Tensor, Tensor, Tensor]


class MultiheadAttention(nn.Module):
    """Scaled dot-product attention of several heads (Vaswani et al. 2017, section 3.2.2).

    The parameters have the names and layouts of `torch.nn.MultiheadAttention`. The heads are views
    of the projections: nothing is copied.

    Args:
        size: features of queries, keys, values and output. num_heads: has to divide it.
        dropout: on the attention weights, in [0, 1).

    Raises:
        ConfigError: ``num_heads`` does not divide ``size``.
    """

    def __init__(self, size: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if size % num_heads:
            raise ConfigError(f"num_heads: {num_heads} heads do not divide {size} features")
        self.size, self.num_heads, self.dropout = size, num_heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * size, size))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * size))
        self.out_proj = _linear(size, size)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        *,
        key_lengths: Tensor | None = None,
        query_lengths: Tensor | None = None,
        bias: Tensor | None = None,
        return_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Attend from ``query`` to ``key`` (default: the query itself).

        Args:
            query: (B, Tq, size). key: (B, Tk, size). value: (B, Tk, size), default the key.
            key_lengths, query_lengths: (B,) valid steps; rows beyond mix no value.
            bias: added to the scores, broadcastable to (B, H, Tq, Tk).
            return_weights: also return the weights, averaged over the heads.

        Returns:
            (B, Tq, size), and (B, Tq, Tk) with ``return_weights``.
        """
        q, k, v = self.heads(query, key, value)
        p, seed = dropout_seed(self, self.dropout, q.device)
        if return_weights:
            output, weights = cross_attention(
                q, k, v, key_lengths=key_lengths, query_lengths=query_lengths,
                dropout_p=p, seed=seed, bias=bias, return_weights=True,
            )  # fmt: skip
            return self.merge(output), weights.mean(dim=1)
        output = cross_attention(
            q, k, v, key_lengths=key_lengths, query_lengths=query_lengths,
            dropout_p=p, seed=seed, bias=bias,
        )  # fmt: skip
        return self.merge(output)

    def heads(self, query: Tensor, key: Tensor | None = None, value: Tensor | None = None) -> Heads:
        """Queries (B, H, Tq, size / H), keys and values (B, H, Tk, size / H).

        What is read from one sequence is projected by one product.
        """
        weight, bias, size = self.in_proj_weight, self.in_proj_bias, self.size
        if value is not None:
            inputs = (query, query if key is None else key, value)
            parts = zip(inputs, weight.chunk(3), bias.chunk(3))
            q, k, v = (F.linear(x, w, b) for x, w, b in parts)
        elif key is not None:
            q = F.linear(query, weight[:size], bias[:size])
            k, v = F.linear(key, weight[size:], bias[size:]).chunk(2, dim=-1)
        else:
            q, k, v = F.linear(query, weight, bias).chunk(3, dim=-1)
        return self._split(q), self._split(k), self._split(v)

    def merge(self, heads: Tensor) -> Tensor:
        """(B, H, T, size / H) to the output (B, T, size)."""
        output: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        batch, steps, _ = x.shape
        return x.view(batch, steps, self.num_heads, -1).transpose(1, 2)


class TransformerLayer(nn.Module):
    """``x + attention(norm x, norm source)``, then ``x + feedforward(norm x)`` (pre-norm).

    One norm serves the sequence and its source (released code of Tsai et al. 2019).

    Args:
        size, num_heads: as `MultiheadAttention`. feedforward_size: inner features.
        attention_dropout: on the attention weights. relu_dropout: after the feed-forward's ReLU.
        residual_dropout: on what is added to the sequence.
    """

    def __init__(
        self,
        size: int,
        num_heads: int,
        feedforward_size: int,
        *,
        attention_dropout: float = 0.0,
        relu_dropout: float = 0.0,
        residual_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = MultiheadAttention(size, num_heads, attention_dropout)
        self.linear1 = _linear(size, feedforward_size)
        self.linear2 = _linear(feedforward_size, size)
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.relu_dropout = Dropout(relu_dropout)
        self.residual_dropout = Dropout(residual_dropout)

    def heads(self, x: Tensor, source: Tensor | None, values: Tensor | None) -> Heads:
        """What the layer attends with; see `MultiheadAttention.heads`."""
        normed = [None if s is None else self.norm1(s) for s in (source, values)]
        return self.attention.heads(self.norm1(x), *normed)

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        """The layer's output (B, T, size) from its input and its attention (B, H, T, size / H)."""
        x = x + self.residual_dropout(self.attention.merge(attended))
        hidden = self.relu_dropout(F.relu(self.linear1(self.norm2(x))))
        output: Tensor = x + self.residual_dropout(self.linear2(hidden))
        return output


class Reading(NamedTuple):
    """What a `TransformerEncoder` reads.

    Args:
        x: (B, T, size). lengths: (B,) int64 in [0, T], or None where all steps are valid.
        source: (B, S, size) to attend to in every layer; None: x attends to itself.
        source_lengths: of the source.
        values: (B, S, size), read in place of the source where attention mixes values.
        bias: added to the scores of every layer, broadcastable to (B, H, T, S).
    """

    x: Tensor
    lengths: Tensor | None = None
    source: Tensor | None = None
    source_lengths: Tensor | None = None
    values: Tensor | None = None
    bias: Tensor | None = None


class TransformerEncoder(nn.Module):
    """A stack of `TransformerLayer` and a last norm.

    With a source it is the cross-modal transformer of MulT (Tsai et al. 2019): every layer attends
    to the same low-level source. Without, it is a plain transformer encoder.

    Args:
        size, num_heads: as `MultiheadAttention`. num_layers: depth.
        feedforward_size: default four times ``size``.
        attention_dropout, relu_dropout, residual_dropout: as `TransformerLayer`.
        embed_dropout: on the scaled inputs with their positions.
        positions: added to the inputs, which are scaled by sqrt(size) then; see `positions_for`.
            None: no positions and no scale.
    """

    def __init__(
        self,
        size: int,
        num_heads: int,
        num_layers: int,
        *,
        feedforward_size: int | None = None,
        attention_dropout: float = 0.0,
        relu_dropout: float = 0.0,
        residual_dropout: float = 0.0,
        embed_dropout: float = 0.0,
        positions: Positions | None = "step",
    ) -> None:
        super().__init__()
        self.positions: Positions | None = positions
        self.embed_dropout = Dropout(embed_dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(
                size,
                num_heads,
                feedforward_size or 4 * size,
                attention_dropout=attention_dropout,
                relu_dropout=relu_dropout,
                residual_dropout=residual_dropout,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(size)

    def embed(self, x: Tensor, tables: Tables | None = None) -> Tensor:
        """Scale, positions and dropout on (B, T, size); ``tables`` as in `positions_for`."""
        if self.positions is not None:
            x = math.sqrt(x.shape[-1]) * x + positions_for(x, self.positions, tables)
        output: Tensor = self.embed_dropout(x)
        return output

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        source: Tensor | None = None,
        source_lengths: Tensor | None = None,
        *,
        values: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """(B, T, size) from the arguments of `Reading`; padded steps hold nothing of meaning."""
        reading = Reading(x, lengths, source, source_lengths, values, bias)
        return run_transformers([self], [reading])[0]


def run_transformers(
    encoders: Sequence[TransformerEncoder], readings: Sequence[Reading]
) -> list[Tensor]:
    """What each encoder gives for its reading; at every depth all attentions run in one call.

    Attentions with a bias run one by one, and those of different dropout in a call each. Hooks of
    the encoders do not run.

    Args:
        encoders: at least one, of any sizes and depths. readings: one for each.

    Returns:
        One (B, T, size) for each.
    """
    tables: Tables = {}
    states = [encoder.embed(reading.x, tables) for encoder, reading in zip(encoders, readings)]
    sources, values = (
        [None if x is None else encoder.embed(x, tables) for encoder, x in zip(encoders, which)]
        for which in ([r.source for r in readings], [r.values for r in readings])
    )
    for depth in range(max(len(encoder.layers) for encoder in encoders)):
        live = [k for k, encoder in enumerate(encoders) if depth < len(encoder.layers)]
        layers: list[TransformerLayer] = [encoders[k].layers[depth] for k in live]  # type: ignore[misc]
        heads = [layer.heads(states[k], sources[k], values[k]) for k, layer in zip(live, layers)]
        attended = _attend(layers, heads, [readings[k] for k in live])
        for k, layer, out in zip(live, layers, attended):
            states[k] = layer(states[k], out)
    return [encoder.norm(state) for encoder, state in zip(encoders, states)]


def _attend(
    layers: Sequence[TransformerLayer], heads: Sequence[Heads], readings: Sequence[Reading]
) -> list[Tensor]:
    """The attentions of several layers, as few calls as can be."""
    outputs: dict[int, Tensor] = {}
    together: dict[float, list[tuple[int, AttentionPair]]] = {}
    for k, (layer, (q, key, v), reading) in enumerate(zip(layers, heads, readings)):
        p, seed = dropout_seed(layer.attention, layer.attention.dropout, q.device)
        key_lengths = reading.lengths if reading.source is None else reading.source_lengths
        if reading.bias is not None:
            outputs[k] = cross_attention(
                q, key, v, key_lengths=key_lengths, query_lengths=reading.lengths,
                dropout_p=p, seed=seed, bias=reading.bias,
            )  # fmt: skip
        else:
            pair = AttentionPair(q, key, v, key_lengths, reading.lengths, seed)
            together.setdefault(p, []).append((k, pair))
    for p, group in together.items():
        positions, pairs = zip(*group)
        outputs.update(zip(positions, cross_attention_pairs(pairs, dropout_p=p)))
    return [outputs[k] for k in range(len(layers))]


def _linear(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
