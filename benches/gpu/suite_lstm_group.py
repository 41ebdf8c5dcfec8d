"""Groups of LSTMs over sequences of equal lengths, beside cuDNN one by one and on streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benches.gpu.contenders import Function, contender, ours
from benches.gpu.setting import Setting, bound_of_others, our_bound
from benches.gpu.torch_lstm import exact_cudnn, lstm_contenders, split
from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL, Case, Inputs, Suite, Work
from fusionkit.bench.cases.length_aware_lstm import bilstm_work
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.ops import force_backend, length_aware_lstm_group


class Group(NamedTuple):
    """Input sizes of the LSTMs, hidden size, directions, variant."""

    title: str
    sizes: tuple[int, ...]
    hidden: int
    bidirectional: bool
    variant: str = FULL


ENCODERS, MASKS = "three bidirectional encoders", "six mask LSTMs"
_MOSEI = (300, 74, 35)


def suite(setting: Setting) -> Suite:
    """MMLatch's encoders (300, 74 and 35 features) and its six mask networks."""
    groups = [
        *(Group(ENCODERS, _MOSEI, 100, True, variant) for variant in (FULL, PARTIAL)),
        *(Group(MASKS, (100,) * 6, 100, False, variant) for variant in (FULL, PARTIAL)),
        *(Group(ENCODERS, _MOSEI, hidden, True) for hidden in (300, 35, 128)),
        *(Group(MASKS, (hidden,) * 6, hidden, False) for hidden in (300, 35)),
        Group(ENCODERS, _MOSEI, 35, True, PARTIAL),
    ]
    dry = [Group("two", (3, 2), 4, True), Group("two", (3, 2), 4, False, PARTIAL)]
    batch, steps = setting.pick((32, 50), (32, 50), (2, 3))
    return Suite(
        "length_aware_lstm_group",
        tuple(
            _case(group, batch, steps, setting) for group in setting.pick(groups, groups[:3], dry)
        ),
    )


def _case(group: Group, batch: int, steps: int, setting: Setting) -> Case:
    lengths = torch.full((batch,), steps)
    if group.variant == PARTIAL:
        lengths = forty_to_hundred_percent(steps, batch)
    dtype = torch.float32
    return Case(
        name=f"{group.title} H{group.hidden} B{batch} T{steps}",
        group=group.title,
        variant=group.variant,
        inputs=partial(_inputs, group, lengths, steps, setting.device),
        reference=partial(_reference, group.bidirectional),
        contenders=(
            *lstm_contenders(
                group.bidirectional, lengths, setting.device, group.variant == PARTIAL
            ),
            *ours(["length_aware_lstm_group"], partial(_ours, group.bidirectional), setting.device),
        ),
        work={phase: _work(group, int(lengths.sum()), phase) for phase in (FORWARD, BOTH)},
        bound=our_bound(dtype),
        bound_others=bound_of_others(dtype),
    )


def _work(group: Group, valid: int, phase: str) -> Work:
    both = reduce(add, (bilstm_work(valid, size, group.hidden, phase) for size in group.sizes))
    return both if group.bidirectional else Work(both.flops / 2, both.bytes / 2)


def _inputs(group: Group, lengths: Tensor, steps: int, device: torch.device) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    lengths = lengths.to(device)
    valid = (torch.arange(steps, device=device) < lengths[:, None])[:, :, None]
    tensors: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for i, size in enumerate(group.sizes):
            x = torch.randn(len(lengths), steps, size, generator=generator, device=device)
            tensors[f"input {i}"] = x * valid
            lstm = nn.LSTM(size, group.hidden, bidirectional=group.bidirectional)
            tensors |= {f"{name} {i}": p.detach() for name, p in lstm.named_parameters()}
    return Inputs(tensors, {"input": lengths}).to(torch.float32, device)


def _ours(bidirectional: bool, inputs: Inputs) -> Function:
    lengths = inputs.lengths["input"]

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        xs, weights = split(leaves)
        ordered = [list(own.values()) for own in weights]
        return length_aware_lstm_group(xs, lengths, ordered, bidirectional=bidirectional)

    return run


def _reference(bidirectional: bool, inputs: Inputs, phase: str) -> dict[str, Tensor]:
    """In float32 without TF32, as it bounds the error of ours."""
    with force_backend("reference"), exact_cudnn():
        task = contender("reference", partial(_ours, bidirectional)).prepare(inputs, phase)
        return task.results()
