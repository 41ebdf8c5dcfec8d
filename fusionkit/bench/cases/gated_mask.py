"""`gated_mask` beside eager PyTorch and `torch.compile`, at the feature sizes of MOSEI."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.bench.case import BOTH, FORWARD, FULL, Case, Contender, Inputs, Suite, Task, Work
from fusionkit.bench.compiled import compile_whole, proven
from fusionkit.bench.differentiable import differentiable
from fusionkit.bench.goals import EAGER, FEW_FEATURES, MANY_FEATURES, MASK_DROPOUT
from fusionkit.ops import force_backend, gated_mask

BATCH, STEPS, GATES = 32, 50, 2
FEATURES = (35, 74, 300)


def suite() -> Suite:
    """Each size without and with the dropout of the mask."""
    return Suite(
        "gated_mask",
        tuple(_case(size, variant) for size in FEATURES for variant in (FULL, MASK_DROPOUT)),
    )


def _case(size: int, variant: str) -> Case:
    return Case(
        name=f"{BATCH}x{STEPS}x{size} G{GATES}",
        group=MANY_FEATURES if size == max(FEATURES) else FEW_FEATURES,
        variant=variant,
        inputs=partial(_inputs, size, variant),
        reference=_reference,
        contenders=(
            Contender(EAGER, _eager, own_dropout=True),
            Contender("torch.compile", _compiled, own_dropout=True, slow_start=True),
            Contender("fusionkit", _ours, role="ours"),
        ),
        work={phase: mask_work(BATCH * STEPS * size, GATES, phase) for phase in (FORWARD, BOTH)},
        quick=size == FEATURES[0],
    )


def mask_work(elements: int, gates: int, phase: str) -> Work:
    """Operations and bytes for ``elements`` of x, every operand and result moved once.

    Forward: 4 operations a sigmoid (the exponential counts as one), a sum, a factor and a product.
    Backward: the sigmoids again, then for each gate 3 operations, and one product for x.
    """
    sigmoids = 4 * gates
    forward = sigmoids + (gates - 1) + 2
    backward = sigmoids + (gates - 1) + 3 * gates + 1
    moved_forward, moved_backward = gates + 2, 2 * (gates + 1) + 1
    if phase == FORWARD:
        return Work(float(forward * elements), 4.0 * moved_forward * elements)
    return Work(
        float((forward + backward) * elements), 4.0 * (moved_forward + moved_backward) * elements
    )


def _inputs(size: int, variant: str) -> Inputs:
    generator = torch.Generator().manual_seed(0)
    names = ["x", *(f"gate {index}" for index in range(GATES))]
    tensors = {name: torch.randn(BATCH, STEPS, size, generator=generator) for name in names}
    return Inputs(tensors, dropout_p=0.2 if variant == MASK_DROPOUT else 0.0)


def _reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    with force_backend("reference"):
        return _ours(inputs, phase).results()


def plain_mask(x: Tensor, gates: Sequence[Tensor], dropout_p: float) -> Tensor:
    """The mask as one writes it in plain PyTorch, with torch's own dropout."""
    mask = torch.sigmoid(gates[0])
    for gate in gates[1:]:
        mask = mask + torch.sigmoid(gate)
    mask = mask * (1.0 / len(gates))
    if dropout_p:
        mask = F.dropout(mask, dropout_p)
    return x * mask


def _eager(inputs: Inputs, phase: str) -> Task:
    leaves, p = inputs.leaves(), inputs.dropout_p
    x, *gates = leaves.values()
    return differentiable(lambda: [plain_mask(x, gates, p)], leaves, phase)


def _compiled(inputs: Inputs, phase: str) -> Task:
    leaves, p = inputs.leaves(), inputs.dropout_p
    x, *gates = leaves.values()
    function = compile_whole(plain_mask)
    return proven(differentiable(lambda: [function(x, gates, p)], leaves, phase))


def _ours(inputs: Inputs, phase: str) -> Task:
    leaves, p = inputs.leaves(), inputs.dropout_p
    x, *gates = leaves.values()
    seed = inputs.seed if p else None
    return differentiable(lambda: [gated_mask(x, gates, dropout_p=p, seed=seed)], leaves, phase)
