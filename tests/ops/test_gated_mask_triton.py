"""The Triton gated mask against float64: in Triton's interpreter, or on a device."""

from __future__ import annotations

import pytest
import torch

from fusionkit.ops import force_backend, gated_mask
from fusionkit.ops.gated_mask.triton import gated_mask_reasons
from fusionkit.ops.triton_runtime import INTERPRETING

from fuzz import blocks
from gated_mask_checks import (
    check_accuracy,
    check_asked_for_gradients,
    check_dropout_mask,
    check_nothing,
    check_numeric_gradients,
    check_operator,
    check_tracing,
)
from on_triton import BUILDS, DEVICE, runs


@runs
@pytest.mark.parametrize("seeds", blocks(0.02))
def test_fuzz(unwritten_is_nan: None, seeds: range) -> None:
    check_accuracy("triton", DEVICE, seeds, BUILDS)


@runs
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    x, *gates = (torch.randn(3, 9, 33, generator=g).to(DEVICE, dtype) for _ in range(4))
    leaves = [t.requires_grad_() for t in (x, *gates)]
    lengths = torch.tensor([9, 0, 5], device=DEVICE)
    results = {}
    for backend in ("reference", "triton"):
        with force_backend(backend):
            out = gated_mask(x, gates, lengths=lengths, dropout_p=0.3, seed=5)
        results[backend] = (out, *torch.autograd.grad(out.sum(), leaves))
    spacing = 2 * torch.finfo(dtype).eps
    for plain, ours in zip(results["reference"], results["triton"]):
        assert ours.dtype == dtype
        assert torch.allclose(ours, plain, rtol=spacing, atol=spacing * 1e-2)


@runs
def test_the_dropout_mask_is_the_one_of_every_backend() -> None:
    check_dropout_mask("triton", DEVICE)


@runs
def test_only_asked_for_gradients_are_computed() -> None:
    check_asked_for_gradients("triton", DEVICE)


@runs
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    check_nothing("triton", DEVICE, shape)


@runs
@pytest.mark.parametrize("operator", ["gated_mask", "gated_mask_backward"])
def test_opcheck(operator: str) -> None:
    check_operator("fusionkit_triton", DEVICE, operator)


@runs
def test_gradients_numerically() -> None:
    check_numeric_gradients("triton", DEVICE)


def test_what_it_does_not_take() -> None:
    x = torch.ones(1, 2, 3, dtype=torch.float64)
    reasons = "; ".join(gated_mask_reasons(x, [x] * 9, dropout_p=0.1, seed=1))
    assert "float64" in reasons and "9 gates" in reasons
    assert ("is on cpu" in reasons) == (not INTERPRETING)


def test_traced_without_a_device() -> None:
    check_tracing("fusionkit_triton")
