"""The Triton InfoNCE against float64: in Triton's interpreter, or on a device."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import force_backend, info_nce
from fusionkit.ops.info_nce.autograd import fake_backward
from fusionkit.ops.info_nce.triton import info_nce_reasons
from fusionkit.ops.triton_runtime import INTERPRETING

from fuzz import blocks
from gated_mask_cases import KERNEL_DTYPES, largest
from on_triton import DEVICE, runs


def case(seed: int) -> tuple[str, list[Tensor], float]:
    """Name; queries, keys and the gradient of the losses; scale."""
    g = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=g))

    count, size = (
        [number(1, 20), number(60, 70)][number(0, 1)],
        [1, number(2, 40), 70][number(0, 2)],
    )
    spread, scale = [0.1, 1.0, 8.0][number(0, 2)], [1.0, size**-0.5][number(0, 1)]
    dtype = KERNEL_DTYPES[seed % len(KERNEL_DTYPES)]
    queries, keys = (torch.randn(count, size, generator=g) for _ in range(2))
    grad = torch.randn(2 * count, generator=g)
    if number(0, 1):
        # Scores that are large on the diagonal, as they are after training.
        keys = queries + 0.1 * keys
    inputs = [
        (queries * spread).T.contiguous().T.to(DEVICE, dtype),
        torch.cat([keys, keys], dim=1).to(DEVICE, dtype)[:, size:],
        grad.to(DEVICE, dtype)[::2],
    ]
    return f"N{count}-D{size}-{dtype}-spread{spread}-scale{scale}-seed{seed}", inputs, scale


def run(inputs: list[Tensor], scale: float, backend: str) -> list[Tensor]:
    """Losses, and gradients of queries and keys, in float64."""
    leaves = [t.detach().requires_grad_() for t in inputs[:2]]
    with force_backend(backend):
        losses = info_nce(*leaves, scale=scale)
    grads = torch.autograd.grad(losses, leaves, inputs[2])
    return [t.detach().double() for t in (losses, *grads)]


@runs
@pytest.mark.parametrize("seeds", blocks(0.01))
def test_fuzz(unwritten_is_nan: None, seeds: range) -> None:
    """At most twice plain PyTorch's error and two spacings, and every element written."""
    for seed in seeds:
        name, inputs, scale = case(seed)
        right = run([t.double() for t in inputs], scale, "reference")
        top = float((inputs[0].double() @ inputs[1].double().T * scale).abs().max())
        # A loss is a difference of scores. In a gradient stand their exponentials, and one spacing
        # of a score s is s spacings of exp(s): of float32, in which scores are always computed.
        dtype = inputs[0].dtype
        of_scores = max(1.0, top) if dtype == torch.float32 else 1.0
        sizes = [right[0].abs().clamp(min=top), right[1], right[2]]
        spacings = [2.0, 2 * of_scores, 2 * of_scores]
        for i, (r, size, more, plain, ours) in enumerate(
            zip(
                right,
                sizes,
                spacings,
                run(inputs, scale, "reference"),
                run(inputs, scale, "triton"),
            )
        ):
            theirs = largest(plain - r, size, dtype)
            assert largest(ours - r, size, dtype) <= 2 * theirs + more, f"{i}, {name}"


@runs
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(3)
    leaves = [torch.randn(35, 37, generator=g).to(DEVICE, dtype).requires_grad_() for _ in range(2)]
    results = {}
    for backend in ("reference", "triton"):
        with force_backend(backend):
            losses = info_nce(*leaves, scale=0.3)
        results[backend] = (losses, *torch.autograd.grad(losses.sum(), leaves))
    spacing = 2 * torch.finfo(dtype).eps
    for plain, ours in zip(results["reference"], results["triton"]):
        assert ours.dtype == dtype
        assert torch.allclose(ours, plain, rtol=spacing, atol=spacing * 1e-2)


@runs
def test_losses_of_clear_winners() -> None:
    """Scores of 4e4: the losses are 0, and no gradient is left; none of it is NaN."""
    vectors = (200.0 * torch.eye(20, device=DEVICE)).requires_grad_()
    keys = (200.0 * torch.eye(20, device=DEVICE)).requires_grad_()
    with force_backend("triton"):
        losses = info_nce(vectors, keys)
        far = info_nce(vectors.detach(), keys.detach().flip(0))
    assert losses.eq(0).all() and far.eq(4e4).all()
    for gradient in torch.autograd.grad(losses.sum(), [vectors, keys]):
        assert gradient.eq(0).all()


@runs
def test_scores_far_below_zero() -> None:
    """All -800, where exp(800) is no float32: what fills up a tile must not come in."""
    queries, keys = (torch.full((5, 2), value, device=DEVICE) for value in (20.0, -20.0))
    leaves = [queries.requires_grad_(), keys.requires_grad_()]
    with force_backend("triton"):
        losses = info_nce(queries, keys)
    torch.testing.assert_close(losses, torch.full((5,), 5.0, device=DEVICE).log())
    for gradient in torch.autograd.grad(losses.sum(), leaves):
        torch.testing.assert_close(gradient, torch.zeros_like(queries), atol=1e-2, rtol=0)


@runs
def test_only_asked_for_gradients_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def recorded(*arguments: Any) -> list[Tensor]:
        asked.append(arguments[-1])
        return fake_backward(*arguments)

    module = import_module("fusionkit.ops.info_nce.triton")
    monkeypatch.setattr(module, "fake_backward", recorded)
    for wanted in ([0], [1], [0, 1]):
        results = []
        for backend in ("reference", "triton"):
            leaves = [torch.linspace(i, 2, 18, device=DEVICE).reshape(6, 3) for i in range(2)]
            for i in wanted:
                leaves[i].requires_grad_()
            with force_backend(backend):
                losses = info_nce(*leaves)
            found = torch.autograd.grad(losses.square().sum(), [leaves[i] for i in wanted])
            results.append(found)
        torch.testing.assert_close(*results)
    assert asked == [1, 2, 3]


@runs
def test_one_tensor_as_both_and_twice_the_same_bits() -> None:
    x = torch.randn(40, 5, device=DEVICE, requires_grad=True)
    found = []
    for backend in ("reference", "triton", "triton"):
        with force_backend(backend):
            losses = info_nce(x, x)
        found.append((losses, *torch.autograd.grad(losses.sum(), x)))
    torch.testing.assert_close(found[0], found[1])
    assert all(a.equal(b) for a, b in zip(found[1], found[2]))


@runs
@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_nothing_at_all(unwritten_is_nan: None, shape: tuple[int, int]) -> None:
    queries, keys = (torch.ones(shape, device=DEVICE, requires_grad=True) for _ in range(2))
    with force_backend("triton"):
        losses = info_nce(queries, keys)
    grads = torch.autograd.grad(losses.sum(), [queries, keys])
    torch.testing.assert_close(losses, torch.full(shape[:1], float(shape[0])).log().to(DEVICE))
    assert [g.shape for g in grads] == [torch.Size(shape)] * 2


@runs
@pytest.mark.parametrize("operator", ["info_nce", "info_nce_backward"])
def test_opcheck(operator: str) -> None:
    queries, keys = (torch.randn(5, 3, device=DEVICE) for _ in range(2))
    arguments: tuple[object, ...] = (queries, keys.T.contiguous().T, 0.5)
    if operator == "info_nce_backward":
        grad, normalisers = (torch.randn(5, device=DEVICE) for _ in range(2))
        arguments = (grad, queries, keys, normalisers, 0.5, 3)
    torch.library.opcheck(getattr(torch.ops.fusionkit_triton, operator).default, arguments)


@runs
def test_gradients_numerically() -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    queries, keys = (torch.randn(4, 3, device=DEVICE, requires_grad=True) for _ in range(2))

    def call(queries: Tensor, keys: Tensor) -> Tensor:
        with force_backend("triton"):
            return info_nce(queries, keys, scale=0.5)

    assert torch.autograd.gradcheck(call, (queries, keys), eps=1e-2, atol=2e-3, rtol=2e-3)


@runs
def test_second_derivatives() -> None:
    found = []
    for backend in ("reference", "triton"):
        leaves = [torch.linspace(i, 1, 12, device=DEVICE).reshape(4, 3) for i in range(2)]
        leaves = [t.requires_grad_() for t in leaves]
        with force_backend(backend):
            losses = info_nce(*leaves)
        first = torch.autograd.grad(losses.sum(), leaves, create_graph=True)
        found.append(torch.autograd.grad(torch.cat(first).square().sum(), leaves))
    torch.testing.assert_close(*found)


@runs
def test_compiled_in_one_graph() -> None:
    def both_ways(queries: Tensor, keys: Tensor) -> Tensor:
        with force_backend("triton"):
            return info_nce(queries, keys) + info_nce(keys, queries) + info_nce(keys, keys)

    found = []
    for function in (both_ways, torch.compile(both_ways, backend="aot_eager")):
        leaves = [torch.linspace(i, 1, 12, device=DEVICE).reshape(4, 3) for i in range(2)]
        losses = function(*(t.requires_grad_() for t in leaves))
        found.append((losses, *torch.autograd.grad(losses.sum(), leaves)))
    torch.testing.assert_close(*found)


def test_what_it_does_not_take() -> None:
    x = torch.ones(2, 3, dtype=torch.float64)
    reasons = "; ".join(info_nce_reasons(x, x))
    assert "float64" in reasons
    assert ("is on cpu" in reasons) == (not INTERPRETING)


def test_traced_without_a_device() -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = torch.empty(5, 3, device="cuda", dtype=torch.bfloat16)
        losses, normalisers = torch.ops.fusionkit_triton.info_nce.default(x, x, 1.0)
        (grad_keys,) = torch.ops.fusionkit_triton.info_nce_backward.default(
            losses, x, x, normalisers, 1.0, 2
        )
    assert losses.device.type == "cuda" and losses.dtype == torch.bfloat16
    assert normalisers.dtype == torch.float32 and losses.shape == normalisers.shape == (5,)
    assert grad_keys.shape == x.shape and grad_keys.dtype == x.dtype
