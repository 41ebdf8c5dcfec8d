"""`cross_attention` beside eager PyTorch, `torch.compile`, FlexAttention and SDPA."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.bench.case import (
    BOTH,
    FORWARD,
    FULL,
    PARTIAL,
    Case,
    Contender,
    Inputs,
    NotAvailableError,
    Suite,
    Task,
)
from fusionkit.bench.cases.plain_attention import (
    attention_results,
    attention_work,
    key_mask,
    plain_attention,
)
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.compiled import compile_whole, proven
from fusionkit.bench.differentiable import differentiable
from fusionkit.bench.goals import (
    ATTENTION_DROPOUT,
    EAGER,
    LONG_NARROW,
    LONG_WIDE,
    SHORT_NARROW,
    SHORT_WIDE,
)
from fusionkit.ops import cross_attention

BATCH = 32
_NAMES = ("query", "key", "value")


class Shape(NamedTuple):
    """Query steps, key steps, heads and features of a head."""

    queries: int
    keys: int
    heads: int
    head_dim: int

    @property
    def title(self) -> str:
        """Such as ``50x375 H8 D5``."""
        return f"{self.queries}x{self.keys} H{self.heads} D{self.head_dim}"

    @property
    def group(self) -> str:
        """The class that goals are set for."""
        narrow, long = self.head_dim <= 10, max(self.queries, self.keys) >= 375
        if long:
            return LONG_NARROW if narrow else LONG_WIDE
        return SHORT_NARROW if narrow else SHORT_WIDE


SHAPES = tuple(
    Shape(*numbers)
    for numbers in (
        (20, 20, 4, 10),
        (20, 50, 10, 4),
        (50, 20, 8, 5),
        (50, 50, 1, 32),
        (50, 50, 4, 10),
        (50, 50, 8, 5),
        (50, 50, 10, 4),
        (50, 50, 10, 8),
        (50, 50, 8, 16),
        (50, 50, 4, 64),
        (50, 375, 8, 5),
        (375, 50, 8, 5),
        (50, 500, 4, 10),
        (500, 50, 4, 10),
        (375, 500, 8, 5),
        (375, 500, 1, 32),
        (500, 500, 10, 4),
        (500, 500, 4, 16),
        (500, 500, 1, 64),
    )
)


def suite() -> Suite:
    """Every shape at full lengths and at 70 %, and the long narrow ones with dropout."""
    cases = [_case(shape, variant) for shape in SHAPES for variant in (FULL, PARTIAL)]
    cases += [_case(s, ATTENTION_DROPOUT) for s in SHAPES if s.group == LONG_NARROW]
    return Suite("cross_attention", tuple(cases))


def _case(shape: Shape, variant: str, batch: int = BATCH) -> Case:
    valid = batch * shape.keys
    if variant == PARTIAL:
        valid = int(forty_to_hundred_percent(shape.keys, batch).sum())
    return Case(
        name=shape.title,
        group=shape.group,
        variant=variant,
        inputs=partial(make_inputs, shape, variant, batch),
        reference=_reference,
        contenders=(
            Contender(EAGER, _eager, own_dropout=True),
            Contender("torch.compile", _compiled, own_dropout=True, slow_start=True),
            Contender("FlexAttention", _flex, slow_start=True),
            Contender("SDPA", _sdpa, own_dropout=True),
            Contender("fusionkit", _ours, role="ours"),
        ),
        work={
            phase: attention_work(batch, shape.heads, shape.queries, shape.head_dim, valid, phase)
            for phase in (FORWARD, BOTH)
        },
        quick=shape == SHAPES[0],
    )


def make_inputs(shape: Shape, variant: str, batch: int = BATCH) -> Inputs:
    """Normal query, key and value (B, H, T, D), and lengths of the keys."""
    generator = torch.Generator().manual_seed(0)
    sizes = (shape.queries, shape.keys, shape.keys)
    tensors = {
        name: torch.randn(batch, shape.heads, steps, shape.head_dim, generator=generator)
        for name, steps in zip(_NAMES, sizes)
    }
    lengths = {"key": forty_to_hundred_percent(shape.keys, batch)} if variant == PARTIAL else {}
    return Inputs(tensors, lengths, 0.1 if variant == ATTENTION_DROPOUT else 0.0)


def _three(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    return tensors["query"], tensors["key"], tensors["value"]


def _mask(inputs: Inputs) -> Tensor | None:
    return key_mask(inputs.lengths.get("key"), inputs.tensors["key"].shape[2])


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    output, gradients = attention_results(
        *_three(dict(inputs.tensors)), _mask(inputs), inputs.dropout_p, inputs.seed, phase
    )
    return {"output 0": output} | {f"gradient of {n}": g for n, g in zip(_NAMES, gradients)}


def _eager(inputs: Inputs, phase: str) -> Task:
    leaves, mask, p = inputs.leaves(), _mask(inputs), inputs.dropout_p
    tensors = _three(leaves)
    return differentiable(lambda: [plain_attention(*tensors, mask, p)], leaves, phase)


def _compiled(inputs: Inputs, phase: str) -> Task:
    leaves, mask, p = inputs.leaves(), _mask(inputs), inputs.dropout_p
    tensors, function = _three(leaves), compile_whole(plain_attention)
    return proven(differentiable(lambda: [function(*tensors, mask, p)], leaves, phase))


def _flex(inputs: Inputs, phase: str) -> Task:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    if inputs.dropout_p:
        raise NotAvailableError("FlexAttention has no dropout")
    leaves = inputs.leaves()
    if phase == FORWARD:
        # It refuses tensors that ask for gradients even where none are taken.
        leaves = {name: x.detach() for name, x in leaves.items()}
    tensors, function = _three(leaves), compile_whole(flex_attention)
    block_mask = None
    if inputs.lengths:
        lengths = inputs.lengths["key"]

        def valid(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return key < lengths[batch]

        steps = (tensors[0].shape[2], tensors[1].shape[2])
        block_mask = create_block_mask(valid, len(lengths), None, *steps, device="cpu")

    def attend() -> Sequence[Tensor]:
        return [function(*tensors, block_mask=block_mask)]

    return proven(differentiable(attend, leaves, phase))


def _sdpa(inputs: Inputs, phase: str) -> Task:
    leaves, mask, p = inputs.leaves(), _mask(inputs), inputs.dropout_p
    tensors = _three(leaves)

    def attend() -> Sequence[Tensor]:
        return [F.scaled_dot_product_attention(*tensors, attn_mask=mask, dropout_p=p)]

    return differentiable(attend, leaves, phase)


def _ours(inputs: Inputs, phase: str) -> Task:
    leaves, lengths, p = inputs.leaves(), inputs.lengths.get("key"), inputs.dropout_p
    tensors, seed = _three(leaves), inputs.seed if p else None

    def attend() -> Sequence[Tensor]:
        return [cross_attention(*tensors, key_lengths=lengths, dropout_p=p, seed=seed)]

    return differentiable(attend, leaves, phase)
