"""One small call of every operator, for checks that are the same for all backends."""

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
        op: as in `available_backends`. name: with what is special. shapes: of the leaves.
        run: (leaves, lengths of 13 steps, lengths of 17 steps, seed) -> outputs.
        dtype: of the leaves.
    """

    op: str
    name: str
    shapes: tuple[tuple[int, ...], ...]
    run: Callable[[Leaves, Tensor, Tensor, Tensor], list[Tensor]]
    dtype: torch.dtype = torch.float32

    def leaves(self, device: str | torch.device) -> Leaves:
        """The same normal numbers at every call."""
        generator = torch.Generator().manual_seed(3)
        return [
            torch.randn(shape, generator=generator).to(device, self.dtype).requires_grad_()
            for shape in self.shapes
        ]

    def prepared(self, leaves: Leaves) -> Callable[[], list[Tensor]]:
        """The call, with lengths (one is 0) and the seed on the device already."""
        device = leaves[0].device
        lengths = [torch.tensor([n, 0, n // 2], device=device) for n in _STEPS]
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


def _attend(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    return [cross_attention(*x, key_lengths=long, query_lengths=short, dropout_p=0.2, seed=seed)]


def _pairs(x: Leaves, short: Tensor, long: Tensor, seed: Tensor) -> list[Tensor]:
    pairs = [
        AttentionPair(x[0], x[1], x[2], long, short, seed),
        AttentionPair(x[1], x[0], x[0], short, long, seed + 1),
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
