"""`info_nce`: contrastive losses of N pairs, beside a matrix of N x N scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import fusionkit.ops
from benches.gpu.contenders import Function, compiled, contender, ours
from benches.gpu.setting import SHORT_NAMES, Setting, bound_of_others, in_dtype, our_bound
from fusionkit.bench.case import BOTH, FORWARD, FULL, Case, Inputs, Suite, Work
from fusionkit.bench.goals import EAGER

_INFO_NCE: Any = getattr(fusionkit.ops, "info_nce", None)


def suite(setting: Setting) -> Suite:
    """From the batch of a training step to a memory bank."""
    if _INFO_NCE is None:
        return Suite("info_nce", (), {"info_nce": "fusionkit.ops has no info_nce in this version"})
    single, brain = torch.float32, torch.bfloat16
    shapes = [(512, 64, single), (4096, 64, single), (16384, 128, single), (16384, 128, brain)]
    cases = [
        _case(*shape, setting=setting)
        for shape in setting.pick(shapes, shapes[:2], [(5, 3, single)])
    ]
    return Suite("info_nce", tuple(cases))


def _case(count: int, size: int, dtype: torch.dtype, *, setting: Setting) -> Case:
    flops = 2.0 * count * count * size
    return Case(
        name=f"N{count} D{size} {SHORT_NAMES[dtype]}",
        group="InfoNCE",
        variant=FULL,
        inputs=partial(_inputs, count, size, dtype, setting.device),
        reference=lambda inputs, phase: contender(EAGER, _eager).prepare(inputs, phase).results(),
        contenders=(
            contender(EAGER, _eager),
            *(
                [contender("torch.compile", _compiled, slow_start=True)]
                if dtype == torch.float32
                else []
            ),
            *ours(["info_nce"], _ours, setting.device),
        ),
        # The scores once; backward again, and a product for each of two gradients.
        work={
            FORWARD: in_dtype(Work(flops, 8.0 * count * size), dtype),
            BOTH: in_dtype(Work(4 * flops, 24.0 * count * size), dtype),
        },
        bound=our_bound(dtype),
        bound_others=bound_of_others(dtype),
    )


def _inputs(count: int, size: int, dtype: torch.dtype, device: torch.device) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    tensors = {
        name: torch.randn(count, size, generator=generator, device=device)
        for name in ("queries", "keys")
    }
    return Inputs({n: F.normalize(x, dim=1) for n, x in tensors.items()}).to(dtype, device)


def plain(queries: Tensor, keys: Tensor) -> Tensor:
    """With all scores in memory."""
    targets = torch.arange(len(queries), device=queries.device)
    return F.cross_entropy(10.0 * (queries @ keys.T), targets, reduction="none")


def _eager(inputs: Inputs) -> Function:
    return lambda leaves: [plain(leaves["queries"], leaves["keys"])]


def _compiled(inputs: Inputs) -> Function:
    return lambda leaves: [compiled(plain)(leaves["queries"], leaves["keys"])]


def _ours(inputs: Inputs) -> Function:
    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        return [_INFO_NCE(leaves["queries"], leaves["keys"], scale=10.0)]

    return run
