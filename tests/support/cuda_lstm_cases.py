"""Random calls of the CUDA LSTM, alone and in groups, and what is right for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops import length_aware_lstm_group

from recurrent_cases import (
    Case,
    Inputs,
    assert_close,
    build,
    draw_for_kernels,
    packed,
    picker,
    poison,
)

EPS = torch.finfo(torch.float32).eps
# Around the sizes at which a thread, a team and a block are full.
SIZES = (1, 2, 4, 5, 7, 16, 19, 20, 21, 33, 40, 64, 100, 101, 130)


def draw(seed: int) -> tuple[Case, int]:
    """A call, and how many blocks run at a time."""
    pick = picker(seed)
    case = draw_for_kernels(
        seed, pick, batches=(1, 2, 5, 9), steps=(1, 2, 3, 7), input_sizes=(1, 3, 8, 35),
        hidden_sizes=SIZES,
    )  # fmt: skip
    return case, pick(2, 3, 8, 20)


def draw_group(seed: int) -> tuple[list[Inputs], int]:
    """One to six LSTMs of unlike sizes and layouts, and how many blocks run at a time."""
    first, count = draw(seed)
    others = [draw(1000 * (seed + 1) + i)[0] for i in range(seed % 6)]
    common: dict[str, Any] = {"batch": first.batch, "steps": first.steps}
    common |= {"bidirectional": first.bidirectional, "num_layers": 1, "need_state": False}
    members = [build(replace(case, **common)) for case in (first, *others)]
    for member in members:
        member.lengths = members[0].lengths
    return members, count


def run_group(members: list[Inputs]) -> list[dict[str, Tensor]]:
    """Results of each member by name, as `run` gives them, with one backward pass for all."""
    weights = [list(member.weights.values()) for member in members]
    outputs = length_aware_lstm_group(
        [member.x for member in members], members[0].lengths, weights,
        bidirectional=members[0].options["bidirectional"],
    )  # fmt: skip
    upstream = [
        torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x) for x in outputs
    ]
    leaves = [x for member, own in zip(members, weights) for x in (member.x, *own)]
    gradients = iter(torch.autograd.grad(outputs, leaves, upstream))
    return [
        {"output": output.detach()}
        | {f"gradient of {name}": next(gradients) for name in ("input", *member.weights)}
        for member, output in zip(members, outputs)
    ]


def truth_of(inputs: Inputs) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """By packed PyTorch, in float64 and in float32; then NaN is put into the padding."""
    found = packed(inputs.cast(torch.float64)), packed(inputs)
    poison(inputs)
    return found


def assert_right(
    inputs: Inputs, got: dict[str, Tensor], truth: tuple[dict[str, Tensor], dict[str, Tensor]]
) -> None:
    """At most twice the error of packed PyTorch, padding neither read nor left unwritten."""
    got = {name: x.cpu() for name, x in got.items()}
    assert_close(got, *truth, EPS)
    for b, n in enumerate([] if inputs.lengths is None else inputs.lengths.tolist()):
        assert not got["output"][b, n:].any() and not got["gradient of input"][b, n:].any()
