"""Operators as plain PyTorch has them, for whole models without our kernels.

The references define dropout by seed and clean the padding of NaN, which costs more than anybody
would pay who writes a model by hand. These backends do what such a person writes: torch's own
dropout, one mask on the scores, nothing twice. They exist inside `plain_pytorch` alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from fusionkit.bench.cases.gated_mask import plain_mask
from fusionkit.ops.backends import Backend, force_backend, temporary_backends
from fusionkit.ops.length_aware_lstm.torch_calls import run_dense
from fusionkit.ops.lengths import within

_NAME = "plain"


@contextmanager
def plain_pytorch(*, padded: bool) -> Iterator[None]:
    """Run operators on plain PyTorch inside the ``with`` block.

    Args:
        padded: compute over all padded steps, without masks, and `nn.LSTM` on padded batches;
            else mask keys, and run `nn.LSTM` on packed sequences (the operator's reference).
    """
    own = [*_PADDED, *_SHARED] if padded else [*_MASKED, *_SHARED]
    with temporary_backends(*own), force_backend(_NAME):
        yield


def _attention(
    query: Tensor,  # (B, H, Tq, D)
    key: Tensor,  # (B, H, Tk, D)
    value: Tensor,  # (B, H, Tk, Dv)
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    bias: Tensor | None = None,
    return_weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Padded queries give zeros, as models rely on it."""
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.mT
    if bias is not None:
        scores = scores + bias
    if key_lengths is not None:
        padded = ~within(key_lengths, key.shape[2])[:, None, None, :]
        scores = scores.masked_fill(padded, float("-inf"))
    weights = F.dropout(scores.softmax(dim=-1), dropout_p)
    result = weights @ value
    if query_lengths is not None:
        padded = ~within(query_lengths, query.shape[2])[:, None, :, None]
        result = result.masked_fill(padded, 0.0)
    return (result, weights) if return_weights else result


def _padded_attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:
    return _attention(query, key, value, **{**options, "key_lengths": None, "query_lengths": None})


def _pairs(
    pairs: Sequence[Any], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[Any]:
    return [
        _attention(
            pair.query,
            pair.key,
            pair.value,
            key_lengths=pair.key_lengths,
            query_lengths=pair.query_lengths,
            scale=scale,
            dropout_p=dropout_p,
        )
        for pair in pairs
    ]


def _padded_pairs(pairs: Sequence[Any], **options: Any) -> list[Any]:
    return _pairs(
        [pair._replace(key_lengths=None, query_lengths=None) for pair in pairs], **options
    )


def _mask(
    x: Tensor,
    gate_logits: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> Tensor:
    """Without lengths: the padding of the features that these models are timed on is zero."""
    return plain_mask(x, gate_logits, dropout_p)


def _dropout(x: Tensor, p: float, seed: int | Tensor) -> Tensor:
    return F.dropout(x, p)


def _padded_lstm(
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
) -> tuple[Tensor, Any]:
    output, state = run_dense(
        input, weights, num_layers=num_layers, bidirectional=bidirectional, dropout_p=dropout_p,
        training=training, cell=cell,
    )  # fmt: skip
    if not need_state:
        return output, None
    return output, (tuple(state) if cell == "lstm" else state[0])


def _takes_all(*args: object, **kwargs: object) -> list[str]:
    return []


def _backend(op: str, run: Any) -> Backend:
    return Backend(op=op, name=_NAME, run=run, not_supported_reasons=_takes_all)


_SHARED = [_backend("gated_mask", _mask), _backend("dropout", _dropout)]
_MASKED = [_backend("cross_attention", _attention), _backend("cross_attention_pairs", _pairs)]
_PADDED = [
    _backend("cross_attention", _padded_attention),
    _backend("cross_attention_pairs", _padded_pairs),
    _backend("length_aware_lstm", _padded_lstm),
]
