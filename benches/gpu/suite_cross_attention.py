"""`cross_attention` beside everything that PyTorch has, from 5 to 128 features a head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from benches.gpu.contenders import Function, ours
from benches.gpu.setting import SHORT_NAMES, Setting, bound_of_others, in_dtype, our_bound
from benches.gpu.torch_attention import mask_of, three, torch_contenders
from fusionkit.bench.case import BOTH, FORWARD, FULL, PARTIAL, Case, Inputs, Suite
from fusionkit.bench.cases.plain_attention import attention_results, attention_work
from fusionkit.bench.cases.valid_lengths import forty_to_hundred_percent
from fusionkit.bench.goals import ATTENTION_DROPOUT
from fusionkit.ops import cross_attention

HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


class Shape(NamedTuple):
    """Features of a head, query and key steps, precision, variant, and whether compilers run."""

    head_dim: int
    queries: int
    keys: int
    dtype: torch.dtype
    variant: str = FULL
    slow: bool = False

    @property
    def batch(self) -> int:
        """Fewer samples of very long sequences."""
        return 4 if self.queries > 1000 else 32

    @property
    def title(self) -> str:
        """Such as ``D64 500x500 float32``."""
        return f"D{self.head_dim} {self.queries}x{self.keys} {SHORT_NAMES[self.dtype]}"


HEADS = 8
# The most telling first: the last ones are left out where time is short.
SHAPES: tuple[Shape, ...] = (
    Shape(64, 2048, 2048, HALF),
    Shape(64, 2048, 2048, BRAIN, slow=True),
    Shape(5, 375, 500, SINGLE, slow=True),
    Shape(64, 500, 500, BRAIN, PARTIAL, slow=True),
    *(Shape(d, 375, 500, dtype) for dtype in (SINGLE, BRAIN) for d in (5, 10, 25, 64, 128)
      if (d, dtype) != (5, SINGLE)),
    *(Shape(d, 50, 50, dtype) for dtype in (SINGLE, BRAIN) for d in (5, 10, 25, 64, 128)),
    *(Shape(d, 375, 500, dtype, PARTIAL) for d in (5, 64) for dtype in (SINGLE, BRAIN)),
    *(Shape(d, 375, 500, SINGLE, ATTENTION_DROPOUT) for d in (5, 10)),
    Shape(64, 500, 500, BRAIN, ATTENTION_DROPOUT),
    Shape(128, 2048, 2048, BRAIN),
    Shape(64, 2048, 2048, SINGLE),
    Shape(5, 2048, 2048, SINGLE),
    Shape(5, 2048, 2048, BRAIN, PARTIAL),
    Shape(10, 500, 500, SINGLE),
    Shape(10, 20, 20, SINGLE),
    Shape(5, 50, 50, SINGLE, PARTIAL),
    Shape(10, 50, 375, SINGLE, PARTIAL),
)  # fmt: skip
DRY = (
    Shape(5, 7, 9, SINGLE),
    Shape(4, 6, 5, SINGLE, PARTIAL),
    Shape(4, 6, 5, SINGLE, ATTENTION_DROPOUT),
)


def suite(setting: Setting) -> Suite:
    """Shapes, precisions and lengths in the order of what they tell."""
    shapes = setting.pick(SHAPES, SHAPES[:8], DRY)
    return Suite("cross_attention", tuple(_case(shape, setting) for shape in shapes))


def _case(shape: Shape, setting: Setting) -> Case:
    batch = setting.pick(shape.batch, shape.batch, 2)
    valid = batch * shape.keys
    if shape.variant == PARTIAL:
        valid = int(forty_to_hundred_percent(shape.keys, batch).sum())
    sizes = (batch, HEADS, shape.queries, shape.head_dim, valid)
    return Case(
        name=f"{shape.title} B{batch} H{HEADS}",
        group=f"D{shape.head_dim}",
        variant=shape.variant,
        inputs=partial(_inputs, shape, batch, setting.device),
        reference=reference,
        contenders=(
            *torch_contenders(setting.device, slow=shape.slow),
            *ours(["cross_attention"], _ours, setting.device),
        ),
        work={
            phase: in_dtype(attention_work(*sizes, phase), shape.dtype) for phase in (FORWARD, BOTH)
        },
        bound=our_bound(shape.dtype),
        bound_others=bound_of_others(shape.dtype),
    )


def _inputs(shape: Shape, batch: int, device: torch.device) -> Inputs:
    generator = torch.Generator(device).manual_seed(0)
    steps = {"query": shape.queries, "key": shape.keys, "value": shape.keys}
    tensors = {
        name: torch.randn(batch, HEADS, count, shape.head_dim, generator=generator, device=device)
        for name, count in steps.items()
    }
    partial_keys = {"key": forty_to_hundred_percent(shape.keys, batch)}
    return Inputs(
        tensors,
        partial_keys if shape.variant == PARTIAL else {},
        0.1 if shape.variant == ATTENTION_DROPOUT else 0.0,
    ).to(shape.dtype, device)


def reference(inputs: Inputs, phase: str) -> dict[str, Tensor]:
    """Plain attention, a few samples at a time."""
    output, gradients = attention_results(
        *three(inputs.tensors), mask_of(inputs), inputs.dropout_p, inputs.seed, phase
    )
    named = {f"gradient of {n}": g for n, g in zip(inputs.tensors, gradients)}
    return {"output 0": output} | named


def _ours(inputs: Inputs) -> Function:
    lengths, p = inputs.lengths.get("key"), inputs.dropout_p
    seed = inputs.seed if p else None

    def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
        return [cross_attention(*three(leaves), key_lengths=lengths, dropout_p=p, seed=seed)]

    return run
