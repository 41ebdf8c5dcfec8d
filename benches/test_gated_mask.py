"""`gated_mask`: the compiled kernel beside plain PyTorch, at the feature sizes of MOSEI.

A time is only taken after the backend's result has been found right, against float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import force_backend, gated_mask
from fusionkit.ops.backends import available_backends

SHAPES = [(32, 50, 35), (32, 50, 74), (32, 50, 300)]
GATES = 2
BACKENDS = [b.name for b in available_backends()["gated_mask"] if not b.unavailable]


def forward(inputs: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return [gated_mask(inputs[0], inputs[1:])]


def forward_and_backward(inputs: list[Tensor]) -> list[Tensor]:
    out = gated_mask(inputs[0], inputs[1:])
    return [out, *torch.autograd.grad(out, inputs, torch.ones_like(out))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("run", [forward, forward_and_backward], ids=["fwd", "fwd+bwd"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "B{}-T{}-D{}-G{}".format(*s, GATES))
def test_gated_mask(
    benchmark: Any,
    shape: tuple[int, int, int],
    run: Callable[[list[Tensor]], list[Tensor]],
    backend: str,
) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator, requires_grad=True) for _ in range(GATES + 1)]
    expected = run([t.detach().double().requires_grad_() for t in inputs])
    with force_backend(backend):
        for found, right in zip(run(inputs), expected):
            torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-6)
        benchmark.group = "gated_mask {} {}".format("x".join(map(str, shape)), run.__name__)
        benchmark(run, inputs)
