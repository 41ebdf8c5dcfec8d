"""`cross_attention_pairs`, six attentions in one call, beside six calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce
from itertools import permutations
from operator import add

import torch
import torch.nn.functional as F
from torch import Tensor

import fusionkit.ops
from fusionkit.bench.case import (
    BOTH,
    FORWARD,
    FULL,
    PARTIAL,
    Case,
    Contender,
    Inputs,
    Suite,
    Task,
    Work,
)
from fusionkit.bench.cases.plain_attention import attention_results, attention_work, key_mask
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.differentiable import differentiable
from fusionkit.ops import cross_attention

BATCH, HEADS, HEAD_DIM = 32, 8, 5
STEPS = (50, 375, 500)
PAIRS = tuple(permutations(STEPS, 2))
_NAMES = ("query", "key", "value")


def suite() -> Suite:
    """All ordered pairs of three modalities with time axes of their own."""
    if not hasattr(fusionkit.ops, "cross_attention_pairs"):
        reason = "fusionkit.ops has no cross_attention_pairs in this version"
        return Suite("cross_attention_pairs", (), {"cross_attention_pairs": reason})
    return Suite("cross_attention_pairs", tuple(_case(variant) for variant in (FULL, PARTIAL)))


def _case(variant: str) -> Case:
    return Case(
        name=f"six pairs of {'/'.join(map(str, STEPS))} H{HEADS} D{HEAD_DIM}",
        group="six pairs",
        variant=variant,
        inputs=partial(_inputs, variant),
        reference=_reference,
        contenders=(
            Contender("six SDPA calls", _six_sdpa),
            Contender("six cross_attention calls", _six_calls, role="other"),
            Contender("fusionkit", _ours, role="ours"),
        ),
        work={phase: _work(variant, phase) for phase in (FORWARD, BOTH)},
    )


def _lengths(variant: str) -> dict[int, Tensor]:
    if variant == FULL:
        return {}
    return {steps: forty_to_hundred_percent(steps, BATCH) for steps in STEPS}


def _work(variant: str, phase: str) -> Work:
    lengths = _lengths(variant)
    valid = {n: int(lengths[n].sum()) if lengths else n * BATCH for n in STEPS}
    return reduce(
        add,
        (attention_work(BATCH, HEADS, tq, HEAD_DIM, valid[tk], phase) for tq, tk in PAIRS),
    )


def _inputs(variant: str) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    tensors, lengths = {}, {}
    by_steps = _lengths(variant)
    for index, (queries, keys) in enumerate(PAIRS):
        for name, steps in zip(_NAMES, (queries, keys, keys)):
            shape = (BATCH, HEADS, steps, HEAD_DIM)
            tensors[f"{name} {index}"] = torch.randn(shape, generator=generator)
        if by_steps:
            lengths[f"key {index}"] = by_steps[keys]
    return Inputs(tensors, lengths)


def _triples(tensors: dict[str, Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
    each = list(tensors.values())
    return list(zip(each[::3], each[1::3], each[2::3]))


def _key_lengths(inputs: Inputs) -> list[Tensor | None]:
    return [inputs.lengths.get(f"key {index}") for index in range(len(PAIRS))]


def _masks(inputs: Inputs) -> list[Tensor | None]:
    return [key_mask(lengths, tk) for lengths, (_, tk) in zip(_key_lengths(inputs), PAIRS)]


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    triples = _triples(dict(inputs.tensors))
    for index, (triple, mask) in enumerate(zip(triples, _masks(inputs))):
        output, of_triple = attention_results(*triple, mask, 0.0, inputs.seed, phase)
        outputs[f"output {index}"] = output
        gradients |= {f"gradient of {n} {index}": g for n, g in zip(_NAMES, of_triple)}
    return outputs | gradients


def _six_sdpa(inputs: Inputs, phase: str) -> Task:
    leaves, masks = inputs.leaves(), _masks(inputs)
    triples = _triples(leaves)

    def attend() -> Sequence[Tensor]:
        return [
            F.scaled_dot_product_attention(*triple, attn_mask=mask)
            for triple, mask in zip(triples, masks)
        ]

    return differentiable(attend, leaves, phase)


def _six_calls(inputs: Inputs, phase: str) -> Task:
    leaves, lengths = inputs.leaves(), _key_lengths(inputs)
    triples = _triples(leaves)

    def attend() -> Sequence[Tensor]:
        return [cross_attention(*triple, key_lengths=n) for triple, n in zip(triples, lengths)]

    return differentiable(attend, leaves, phase)


def _ours(inputs: Inputs, phase: str) -> Task:
    from fusionkit.ops import AttentionPair, cross_attention_pairs

    leaves, lengths = inputs.leaves(), _key_lengths(inputs)
    pairs = [AttentionPair(*t, key_lengths=n) for t, n in zip(_triples(leaves), lengths)]
    return differentiable(lambda: cross_attention_pairs(pairs), leaves, phase)
