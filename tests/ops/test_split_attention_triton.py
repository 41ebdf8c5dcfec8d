"""Triton means and gains by segment against float64: in Triton's interpreter, or on a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import force_backend, segment_mean, segment_scale
from fusionkit.ops.split_attention.autograd import fake_scale_backward
from fusionkit.ops.split_attention.triton import triton_mean_reasons, triton_scale_reasons
from fusionkit.ops.triton_runtime import INTERPRETING

from fuzz import blocks
from gated_mask_cases import KERNEL_DTYPES, LAYOUTS, in_layout, largest
from on_triton import DEVICE, runs


@dataclass(frozen=True)
class Case:
    """Inputs of one call of each operator, drawn from a seed."""

    name: str
    x: Tensor
    gains: Tensor
    grad_mean: Tensor
    grad_scaled: Tensor
    lengths: Tensor | None


def draw(seed: int) -> Case:
    g = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    batch, channels, steps = number(1, 3), [1, number(2, 9), 70][number(0, 2)], number(1, 40)
    trailing = [(), (), (7,), (3, 5)][number(0, 3)]
    segments = number(1, 5)
    layouts = [LAYOUTS[number(0, len(LAYOUTS) - 1)] for _ in range(3)]
    dtype = KERNEL_DTYPES[seed % len(KERNEL_DTYPES)]

    def shaped(layout: str) -> Tensor:
        flat = in_layout(layout, (batch, channels, steps * math.prod(trailing)), g, 1.0, dtype)
        return flat.to(DEVICE).reshape(batch, channels, steps, *trailing)

    lengths = torch.randint(0, steps + 1, (batch,), generator=g) if number(0, 1) else None
    return Case(
        name=f"B{batch}-C{channels}-T{steps}-{trailing}-Q{segments}-{dtype}-{layouts}-seed{seed}",
        x=shaped(layouts[0]),
        gains=in_layout(layouts[1], (batch, channels, segments), g, 1.0, dtype).to(DEVICE),
        grad_mean=torch.randn(batch, channels, segments, generator=g).to(DEVICE, dtype),
        grad_scaled=shaped(layouts[2]),
        lengths=None if lengths is None else lengths.to(DEVICE),
    )


def run(case: Case, backend: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Mean and its gradient; scaled and its two gradients; all in float64."""
    x, gains = (t.detach().to(dtype).requires_grad_() for t in (case.x, case.gains))
    with force_backend(backend):
        mean = segment_mean(x, num_segments=gains.shape[2], lengths=case.lengths)
        scaled = segment_scale(x, gains, lengths=case.lengths)
    results = [mean, *torch.autograd.grad(mean, x, case.grad_mean.to(dtype))]
    results += [scaled, *torch.autograd.grad(scaled, [x, gains], case.grad_scaled.to(dtype))]
    return [t.detach().double() for t in results]


def magnitudes(case: Case) -> Case:
    """The same without any sign."""
    return replace(
        case,
        x=case.x.abs(),
        gains=case.gains.abs(),
        grad_mean=case.grad_mean.abs(),
        grad_scaled=case.grad_scaled.abs(),
    )


@runs
@pytest.mark.parametrize("seeds", blocks(0.01))
def test_fuzz(unwritten_is_nan: None, seeds: range) -> None:
    """At most twice plain PyTorch's error and two spacings, and every element written."""
    for seed in seeds:
        case = draw(seed)
        dtype = case.x.dtype
        # The error of a sum is one of its terms, which may nearly cancel.
        terms = run(magnitudes(case), "reference", torch.float64)
        right = run(case, "reference", torch.float64)
        found = zip(terms, right, run(case, "reference", dtype), run(case, "triton", dtype))
        for i, (size, r, plain, ours) in enumerate(found):
            theirs = largest(plain - r, size, dtype)
            assert largest(ours - r, size, dtype) <= 2 * theirs + 2, f"{i}, {case.name}"
            assert ours[r == 0].eq(0).all(), f"{i}, {case.name}"


@runs
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_padding_has_no_influence(channels_last: bool, poison: float) -> None:
    lengths = torch.tensor([6, 2, 0], device=DEVICE)
    valid = (torch.arange(6, device=DEVICE) < lengths[:, None])[:, None]
    g = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(3, 4, 6, generator=g).to(DEVICE) for _ in range(2))
    gains = torch.randn(3, 4, 4, generator=g).to(DEVICE)
    results = []
    for value in (0.0, poison):
        padded = [torch.where(valid, t, value) for t in (x, grad)]
        if channels_last:
            padded = [t.mT.contiguous().mT for t in padded]
        case = Case("padding", padded[0], gains, gains, padded[1], lengths)
        results.append(run(case, "triton"))
    for clean, poisoned in zip(*results):
        assert poisoned.isfinite().all() and poisoned.equal(clean)


@runs
def test_padding_is_zero_whatever_the_gain() -> None:
    x, lengths = torch.ones(2, 1, 4, device=DEVICE), torch.tensor([3, 0], device=DEVICE)
    x.requires_grad_()
    with force_backend("triton"):
        out = segment_scale(x, torch.full((2, 1, 2), math.nan, device=DEVICE), lengths=lengths)
    for found in (out, torch.autograd.grad(out.sum(), x)[0]):
        assert found.isnan().sum() == 3 and found[0, 0, 3] == 0 and found[1].eq(0).all()


@runs
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    x, grad = (torch.randn(3, 9, 33, generator=g).to(DEVICE, dtype) for _ in range(2))
    gains = torch.randn(3, 9, 2, generator=g).to(DEVICE, dtype)
    lengths = torch.tensor([33, 0, 5], device=DEVICE)
    case = Case("half", x, gains, gains, grad, lengths)
    spacing = 2 * torch.finfo(dtype).eps
    for plain, ours in zip(run(case, "reference", dtype), run(case, "triton", dtype)):
        assert torch.allclose(ours, plain, rtol=spacing, atol=spacing * 1e-2)
        assert ours.equal(ours.to(dtype).double())


@runs
def test_layout_is_kept() -> None:
    """Sequences (B, T, C) with channels moved to the front, and images with channels last."""
    sequence = torch.randn(2, 5, 3, device=DEVICE).mT
    image = torch.randn(2, 3, 4, 5, device=DEVICE).to(memory_format=torch.channels_last)
    for x in (sequence, image):
        leaf = x.detach().requires_grad_()
        with force_backend("triton"):
            scaled = segment_scale(leaf, torch.ones(2, 3, 1, device=DEVICE))
        gradient = torch.autograd.grad(scaled.square().sum(), leaf)[0]
        assert scaled.equal(x) and scaled.stride() == x.stride()
        assert gradient.equal(2 * x) and gradient.stride() == x.stride()


@runs
def test_vectors() -> None:
    x, gains = torch.randn(3, 4, device=DEVICE), torch.randn(3, 4, 1, device=DEVICE)
    with force_backend("triton"):
        assert segment_mean(x).equal(x[..., None])
        assert segment_scale(x, gains).equal(x * gains[..., 0])


@runs
def test_only_asked_for_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def recorded(*arguments: Any) -> list[Tensor]:
        asked.append(arguments[-1])
        return fake_scale_backward(*arguments)

    module = import_module("fusionkit.ops.split_attention.triton")
    monkeypatch.setattr(module, "fake_scale_backward", recorded)
    for wanted in ([0], [1], [0, 1]):
        results = []
        for backend in ("reference", "triton"):
            leaves = [torch.linspace(-1, i, 24, device=DEVICE).reshape(2, 3, 4) for i in (1, 2)]
            for i in wanted:
                leaves[i].requires_grad_()
            with force_backend(backend):
                out = segment_scale(*leaves)
            found = torch.autograd.grad(out.square().sum(), [leaves[i] for i in wanted])
            results.append(found)
        torch.testing.assert_close(*results)
    assert asked == [1, 2, 3]


@runs
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (2, 3, 4, 0)], ids=str)
def test_nothing_at_all(unwritten_is_nan: None, shape: tuple[int, ...]) -> None:
    x = torch.ones(shape, device=DEVICE)
    gains = torch.ones(*shape[:2], 2, device=DEVICE)
    case = Case("empty", x, gains, gains, x, None)
    for plain, ours in zip(run(case, "reference"), run(case, "triton")):
        assert ours.equal(plain)


def arguments(operator: str) -> Sequence[object]:
    """Of each operator, with channels next to each other."""
    x, grad = (torch.randn(2, 6, 3, device=DEVICE).mT for _ in range(2))
    gains, lengths = torch.randn(2, 3, 2, device=DEVICE), torch.tensor([3, 1], device=DEVICE)
    return {
        "segment_mean": (x, 3, 2, lengths),
        "segment_mean_backward": (gains, 6, 3, lengths, True),
        "segment_scale": (x, gains, 3, lengths),
        "segment_scale_backward": (grad, x, gains, 3, lengths, 3),
    }[operator]


OPERATORS = ["segment_mean", "segment_mean_backward", "segment_scale", "segment_scale_backward"]


@runs
@pytest.mark.parametrize("operator", OPERATORS)
def test_opcheck(operator: str) -> None:
    torch.library.opcheck(
        getattr(torch.ops.fusionkit_triton, operator).default, tuple(arguments(operator))
    )


def together(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Both operators; x is also the gains."""
    mean = segment_mean(x, num_segments=2, lengths=lengths)
    return segment_scale(x, mean, lengths=lengths) + segment_scale(x, x, lengths=lengths)


@runs
def test_gradients_numerically_and_second_ones() -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    x = torch.randn(2, 2, 3, device=DEVICE, requires_grad=True)
    lengths = torch.tensor([3, 1], device=DEVICE)

    def call(x: Tensor) -> Tensor:
        with force_backend("triton"):
            mean = segment_mean(x, num_segments=2, lengths=lengths)
            return segment_scale(x, mean, lengths=lengths)

    assert torch.autograd.gradcheck(call, x, eps=1e-2, atol=2e-3, rtol=2e-3)
    found = []
    for backend in ("reference", "triton"):
        with force_backend(backend):
            mean = segment_mean(x, num_segments=2, lengths=lengths)
            out = segment_scale(x, mean, lengths=lengths)
        (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), x))
    torch.testing.assert_close(*found)


@runs
def test_compiled() -> None:
    lengths = torch.tensor([4, 1], device=DEVICE)
    found = []
    for function in (together, torch.compile(together, backend="aot_eager")):
        x = torch.linspace(-1, 1, 24, device=DEVICE).reshape(2, 3, 4).requires_grad_()
        with force_backend("triton"):
            out = function(x, lengths)
        found.append((out, *torch.autograd.grad(out.square().sum(), x)))
    torch.testing.assert_close(*found)


def test_what_it_does_not_take() -> None:
    x, gains = torch.ones(1, 2, 3, dtype=torch.float64), torch.ones(1, 2, 1, dtype=torch.float64)
    for reasons in (triton_mean_reasons(x, num_segments=2), triton_scale_reasons(x, gains)):
        assert "float64" in "; ".join(reasons)
        assert ("is on cpu" in "; ".join(reasons)) == (not INTERPRETING)


def test_traced_without_a_device() -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    ops = torch.ops.fusionkit_triton
    with FakeTensorMode():
        x = torch.empty(2, 6, 3, device="cuda", dtype=torch.bfloat16).mT
        mean = ops.segment_mean.default(x, 3, 2, None)
        grad_x = ops.segment_mean_backward.default(mean, 6, 3, None, True)
        scaled = ops.segment_scale.default(x, mean, 3, None)
        (grad_gains,) = ops.segment_scale_backward.default(scaled, x, mean, 3, None, 2)
    assert mean.device.type == "cuda" and mean.dtype == torch.bfloat16
    assert mean.shape == grad_gains.shape == (2, 3, 2)
    assert scaled.shape == grad_x.shape == x.shape
    assert scaled.stride() == grad_x.stride() == x.stride()
