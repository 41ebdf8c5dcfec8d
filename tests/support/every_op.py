"""Small calls of every operator, for checks that are the same for all backends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fusionkit.ops
from fusionkit.ops import (
    AttentionPair,
    available_backends,
    cross_attention,
    cross_attention_pairs,
    dropout,
    gated_mask,
    length_aware_lstm,
    length_aware_lstm_group,
    segment_mean,
    segment_scale,
)

ON_DEVICE = ("cuda", "triton")
"""Backends with kernels for a GPU."""

Leaves = list[Tensor]
_INFO_NCE: Any = getattr(fusionkit.ops, "info_nce", None)
_SEED = 7
_BATCH, _STEPS = 3, (13, 17)


@dataclass(frozen=True)
class Call:
    """A call of one operator.

    Args:
        op: as in `available_backends`. name: with what is special.
        shapes, dtype: of the leaves, the first with the batch. spread: their standard deviation.
        run: (leaves, lengths of the first of ``steps``, of the second, seed) -> outputs.
    """

    op: str
    name: str
    shapes: tuple[tuple[int, ...], ...]
    run: Callable[[Leaves, Tensor, Tensor, Tensor], list[Tensor]]
    dtype: torch.dtype = torch.float32
    steps: tuple[int, int] = _STEPS
    spread: float = 1.0

    def leaves(self, device: str | torch.device) -> Leaves:
        """The same normal numbers at every call."""
        generator = torch.Generator().manual_seed(3)
        return [
            (self.spread * torch.randn(shape, generator=generator))
            .to(device, self.dtype)
            .requires_grad_()
            for shape in self.shapes
        ]

    def prepared(self, leaves: Leaves) -> Callable[[], list[Tensor]]:
        """The call, with lengths (the second is 0) and the seed on the device already."""
        device, batch = leaves[0].device, len(leaves[0])
        lengths = [torch.tensor([n, 0, n // 2][:batch], device=device) for n in self.steps]
        seed = torch.tensor(_SEED, device=device)
        return lambda: self.run(leaves, lengths[0], lengths[1], seed)


def results(leaves: Leaves, run: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Outputs, then the gradients of all leaves for an upstream gradient of ones."""
    outputs = run()
    ones = [torch.ones_like(x) for x in outputs]
    return [*(x.detach() for x in outputs), *torch.autograd.grad(outputs, leaves, ones)]


def _attention(head_dim: int) -> tuple[tuple[int, ...], ...]:
    short, long = _STEPS
    return tuple((_BATCH, 2, n, head_dim) for n in (short, long, long))


def _one_head(steps: int, head_dim: int) -> tuple[tuple[int, ...], ...]:
    """One sample, as cheap as several tiles can be."""
    return ((1, 1, steps, head_dim),) * 3


def _attend(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    return [cross_attention(*x, key_lengths=long, query_lengths=short, dropout_p=0.2, seed=seed)]


def _attend_biased(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    return [cross_attention(*x[:3], bias=x[3], key_lengths=long, dropout_p=0.2, seed=seed)]


def _pairs(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    pairs = [
        AttentionPair(x[0], x[1], x[2], long, short, seed),
        AttentionPair(x[1], x[0], x[0], short, long, seed + 1),
    ]
    return cross_attention_pairs(pairs, dropout_p=0.2)


def _unlike_pairs(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    pairs = [
        AttentionPair(x[0], x[1], x[2], long, short, seed),
        AttentionPair(x[3], x[4], x[5], long, short, seed + 1),
    ]
    return cross_attention_pairs(pairs, dropout_p=0.2)


def _weights(size: int, hidden: int, bidirectional: bool) -> tuple[tuple[int, ...], ...]:
    lstm = nn.LSTM(size, hidden, bidirectional=bidirectional)
    return tuple(tuple(p.shape) for p in lstm.parameters())


def _lstm(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    return [length_aware_lstm(x[0], short, x[1:], bidirectional=True)[0]]


def _lstms(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    return length_aware_lstm_group(x[:2], short, [x[2:6], x[6:]])


_X = (_BATCH, _STEPS[0], 21)
_INPUTS = tuple((_BATCH, _STEPS[0], size) for size in (5, 8))

CALLS: tuple[Call, ...] = (
    Call("cross_attention", "D5", _attention(5), _attend),
    Call("cross_attention", "D64 bfloat16", _attention(64), _attend, torch.bfloat16),
    Call("cross_attention_pairs", "D10", _attention(10), _pairs),
    Call("cross_attention_pairs", "D16 half", _attention(16), _pairs, torch.float16),
    Call(
        "gated_mask", "G2", (_X,) * 3,
        lambda x, short, long, seed: [gated_mask(x[0], x[1:], lengths=short, dropout_p=0.2,
                                                 seed=seed)],
    ),
    Call("dropout", "rows", (_X,), lambda x, short, long, seed: [dropout(x[0], 0.3, seed)]),
    Call("length_aware_lstm", "both ways", (_INPUTS[0], *_weights(5, 6, True)), _lstm),
    Call(
        "length_aware_lstm_group", "two",
        (*_INPUTS, *_weights(5, 6, False), *_weights(8, 6, False)), _lstms,
    ),
    Call(
        "segment_mean", "Q2", ((_BATCH, 6, 13),),
        lambda x, short, long, seed: [segment_mean(x[0], num_segments=2, lengths=short)],
    ),
    Call(
        "segment_scale", "Q2", ((_BATCH, 6, 13), (_BATCH, 6, 2)),
        lambda x, short, long, seed: [segment_scale(x[0], x[1], lengths=short)],
    ),
    *(
        [Call("info_nce", "N33", ((33, 20),) * 2,
              lambda x, short, long, seed: [_INFO_NCE(x[0], x[1], scale=0.3)])]
        if _INFO_NCE is not None
        else []
    ),
    # Tiles that follow one another in the same shared memory, and blocks that wait for each other.
    Call("cross_attention", "D5 T300", _one_head(300, 5), _attend, steps=(300, 300)),
    Call("cross_attention", "D40 T80", _one_head(80, 40), _attend, steps=(80, 80)),
    Call("cross_attention", "D64 T150 half", _one_head(150, 64), _attend, torch.float16,
         (150, 150)),
    Call("cross_attention", "learnt bias", (*_attention(12), (1, 2, *_STEPS)), _attend_biased),
    Call("cross_attention_pairs", "D5 and D40", (*_one_head(80, 5), *_one_head(80, 40)),
         _unlike_pairs, steps=(80, 80)),
    Call(
        "length_aware_lstm_group", "H6 and H130",
        (*_INPUTS, *_weights(5, 6, False), *_weights(8, 130, False)), _lstms,
        spread=0.1,
    ),
)  # fmt: skip


def calls_of(*backends: str) -> list[tuple[Call, str]]:
    """Every call with every one of these backends that its operator has."""
    return [
        (call, backend.name)
        for call in CALLS
        for backend in available_backends().get(call.op, [])
        if backend.name in backends
    ]


def unavailable(op: str, name: str) -> str:
    """Why a backend can never run an operator in this process; empty if it can."""
    return next(b.unavailable for b in available_backends()[op] if b.name == name)
