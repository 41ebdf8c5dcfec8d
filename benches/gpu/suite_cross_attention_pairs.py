"""`cross_attention_pairs`: six attentions of three modalities in one call, beside six calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from itertools import permutations
from operator import add

import torch
from torch import Tensor

from benches.gpu.contenders import Function, compiled, contender, ours
from benches.gpu.setting import SHORT_NAMES, Setting, bound_of_others, in_dtype, our_bound
from benches.gpu.torch_attention import SDPA_BACKENDS, mask_of, sdpa, three
from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL, Case, Inputs, Suite, Work
from fusionkit.bench.cases.plain_attention import (
    attention_results,
    attention_work,
    plain_attention,
)
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.ops import AttentionPair, cross_attention, cross_attention_pairs

SIX_SDPA = "six SDPA calls"
HEADS = 8
_SIX = tuple(f" {index}" for index in range(6))


def suite(setting: Setting) -> Suite:
    """Text 50, audio 375 and vision 500 steps, 32 samples."""
    steps = setting.pick((50, 375, 500), (50, 375, 500), (3, 4, 5))
    single, brain = torch.float32, torch.bfloat16
    kinds = [(5, single, FULL), (10, single, FULL), (5, single, PARTIAL), (5, brain, FULL),
             (10, brain, FULL), (10, single, PARTIAL)]  # fmt: skip
    kinds = setting.pick(kinds, kinds[:2], [(5, single, FULL), (5, single, PARTIAL)])
    return Suite(
        "cross_attention_pairs", tuple(_case(steps, *kind, setting=setting) for kind in kinds)
    )


def _case(
    steps: tuple[int, int, int],
    head_dim: int,
    dtype: torch.dtype,
    variant: str,
    *,
    setting: Setting,
) -> Case:
    batch = setting.pick(32, 32, 2)
    lengths = {n: forty_to_hundred_percent(n, batch) for n in steps} if variant == PARTIAL else {}
    slow = (head_dim, dtype, variant) == (5, torch.float32, FULL)
    return Case(
        name=f"six pairs of {'/'.join(map(str, steps))} H{HEADS} D{head_dim} {SHORT_NAMES[dtype]}",
        group=f"D{head_dim}",
        variant=variant,
        inputs=partial(_inputs, steps, batch, head_dim, dtype, lengths, setting.device),
        reference=_reference,
        contenders=(
            contender(SIX_SDPA, sdpa(None, _SIX)),
            *(
                [contender(f"six {name} calls", sdpa(name, _SIX)) for name in SDPA_BACKENDS]
                if setting.device.type == "cuda"
                else []
            ),
            contender("six eager calls", _six_eager),
            *([contender("six under torch.compile", _compiled, slow_start=True)] if slow else []),
            contender("six cross_attention calls", _six_calls, role="other"),
            *ours(["cross_attention_pairs"], _ours, setting.device),
        ),
        work={
            phase: in_dtype(_work(steps, batch, head_dim, lengths, phase), dtype)
            for phase in (FORWARD, BOTH)
        },
        bound=our_bound(dtype),
        bound_others=bound_of_others(dtype),
    )


def _work(
    steps: tuple[int, int, int], batch: int, size: int, lengths: Mapping[int, Tensor], phase: str
) -> Work:
    valid = {n: int(lengths[n].sum()) if lengths else n * batch for n in steps}
    pairs = permutations(steps, 2)
    return reduce(
        add, (attention_work(batch, HEADS, tq, size, valid[tk], phase) for tq, tk in pairs)
    )


def _inputs(
    steps: tuple[int, int, int],
    batch: int,
    head_dim: int,
    dtype: torch.dtype,
    lengths: Mapping[int, Tensor],
    device: torch.device,
) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    tensors, own = {}, {}
    for suffix, (queries, keys) in zip(_SIX, permutations(steps, 2)):
        for name, count in (("query", queries), ("key", keys), ("value", keys)):
            shape = (batch, HEADS, count, head_dim)
            tensors[name + suffix] = torch.randn(shape, generator=generator, device=device)
        if lengths:
            own["key" + suffix] = lengths[keys]
    return Inputs(tensors, own).to(dtype, device)


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}
    gradients: dict[str, Tensor] = {}
    for suffix in _SIX:
        output, own = attention_results(
            *three(inputs.tensors, suffix), mask_of(inputs, suffix), 0.0, inputs.seed, phase
        )
        outputs[f"output{suffix}"] = output
        names = ("query", "key", "value")
        gradients |= {f"gradient of {n}{suffix}": g for n, g in zip(names, own)}
    return outputs | gradients


def _all_eager(
    triples: Sequence[tuple[Tensor, Tensor, Tensor]], masks: Sequence[Tensor | None]
) -> list[Tensor]:
    return [plain_attention(*triple, mask, 0.0) for triple, mask in zip(triples, masks)]


def _six_eager(inputs: Inputs) -> Function:
    masks = [mask_of(inputs, suffix) for suffix in _SIX]
    return lambda leaves: _all_eager([three(leaves, suffix) for suffix in _SIX], masks)


def _compiled(inputs: Inputs) -> Function:
    masks = [mask_of(inputs, suffix) for suffix in _SIX]
    return lambda leaves: compiled(_all_eager)([three(leaves, s) for s in _SIX], masks)


def _six_calls(inputs: Inputs) -> Function:
    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        return [
            cross_attention(*three(leaves, suffix), key_lengths=inputs.lengths.get(f"key{suffix}"))
            for suffix in _SIX
        ]

    return run


def _ours(inputs: Inputs) -> Function:
    lengths = [inputs.lengths.get(f"key{suffix}") for suffix in _SIX]

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        return cross_attention_pairs(
            [AttentionPair(*three(leaves, s), key_lengths=n) for s, n in zip(_SIX, lengths)]
        )

    return run
