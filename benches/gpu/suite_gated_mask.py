"""`gated_mask` at the feature sizes of MOSEI, and on tensors that no cache holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from benches.gpu.contenders import Function, compiled, contender, ours
from benches.gpu.setting import SHORT_NAMES, Setting, bound_of_others, in_dtype, our_bound
from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL, Case, Inputs, Suite
from fusionkit.bench.cases.gated_mask import mask_work, plain_mask
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.goals import EAGER, MASK_DROPOUT
from fusionkit.ops import force_backend, gated_mask

GATES = 2
LARGE = "over 256 MB"
Shape = tuple[int, int, int, torch.dtype, str]


def suite(setting: Setting) -> Suite:
    """The sizes of MMLatch's masks, then x and gates of 307 MB each."""
    single, brain = torch.float32, torch.bfloat16
    shapes: list[Shape] = [
        (32, 50, 300, single, FULL),
        (2048, 125, 300, single, FULL),
        (32, 50, 74, single, FULL),
        (32, 50, 35, single, FULL),
        (32, 50, 300, single, MASK_DROPOUT),
        (2048, 125, 300, single, MASK_DROPOUT),
        (4096, 125, 300, brain, FULL),
        (2048, 125, 300, single, PARTIAL),
        (32, 50, 300, brain, FULL),
        (32, 50, 300, single, PARTIAL),
    ]
    dry: list[Shape] = [(2, 3, 5, single, variant) for variant in (FULL, PARTIAL, MASK_DROPOUT)]
    cases = [_case(shape, setting) for shape in setting.pick(shapes, shapes[:2], dry)]
    return Suite("gated_mask", tuple(cases))


def _case(shape: Shape, setting: Setting) -> Case:
    batch, steps, size, dtype, variant = shape
    count = valid = batch * steps * size
    if variant == PARTIAL:
        valid = size * int(forty_to_hundred_percent(steps, batch).sum())
    slow = variant != PARTIAL and dtype == torch.float32
    return Case(
        name=f"{batch}x{steps}x{size} G{GATES} {SHORT_NAMES[dtype]}",
        group=LARGE if count * dtype.itemsize > 256e6 else "MOSEI",
        variant=variant,
        inputs=partial(_inputs, shape, setting.device),
        reference=_reference,
        contenders=(
            contender(EAGER, _eager, own_dropout=True),
            *(
                [contender("torch.compile", _compiled, own_dropout=True, slow_start=True)]
                if slow
                else []
            ),
            *ours(["gated_mask"], _ours, setting.device),
        ),
        work={p: in_dtype(mask_work(valid, GATES, p), dtype) for p in (FORWARD, BOTH)},
        bound=our_bound(dtype),
        bound_others=bound_of_others(dtype),
    )


def _inputs(shape: Shape, device: torch.device) -> Inputs:
    batch, steps, size, dtype, variant = shape
    generator = torch.Generator(device).manual_seed(0)
    names = ["x", *(f"gate {index}" for index in range(GATES))]
    tensors = {
        name: torch.randn(batch, steps, size, generator=generator, device=device, dtype=dtype)
        for name in names
    }
    lengths = {"x": forty_to_hundred_percent(steps, batch)} if variant == PARTIAL else {}
    dropout_p = 0.2 if variant == MASK_DROPOUT else 0.0
    return Inputs(tensors, lengths, dropout_p).to(dtype, device)


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    with force_backend("reference"):
        return contender("reference", _ours).prepare(inputs, phase).results()


def masked(x: Tensor, gates: Sequence[Tensor], dropout_p: float, valid: Tensor | None) -> Tensor:
    """The mask in plain PyTorch; ``valid`` (B, T, 1) sets padding to zero."""
    result = plain_mask(x, gates, dropout_p)
    return result if valid is None else result * valid


def _valid(inputs: Inputs) -> Tensor | None:
    if not inputs.lengths:
        return None
    x = inputs.tensors["x"]
    steps = torch.arange(x.shape[1], device=x.device)
    return (steps < inputs.lengths["x"][:, None])[:, :, None]


def _eager(inputs: Inputs) -> Function:
    p, valid = inputs.dropout_p, _valid(inputs)

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        x, *gates = leaves.values()
        return [masked(x, gates, p, valid)]

    return run


def _compiled(inputs: Inputs) -> Function:
    p, valid = inputs.dropout_p, _valid(inputs)

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        x, *gates = leaves.values()
        return [compiled(masked)(x, gates, p, valid)]

    return run


def _ours(inputs: Inputs) -> Function:
    lengths, p = inputs.lengths.get("x"), inputs.dropout_p
    seed = inputs.seed if p else None

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        x, *gates = leaves.values()
        return [gated_mask(x, gates, lengths=lengths, dropout_p=p, seed=seed)]

    return run
