"""The CUDA gated mask against float64: in the emulator on the CPU, or on a device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import force_backend, gated_mask
from fusionkit.ops.cuda_runtime import EMULATED
from fusionkit.ops.gated_mask.cuda import gated_mask_reasons

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
from on_cuda import DEVICE, runs


@runs
@pytest.mark.parametrize("seeds", blocks(0.1))
def test_fuzz(unwritten_is_nan: None, seeds: range) -> None:
    check_accuracy("cuda", DEVICE, seeds)


def tensors(
    shape: tuple[int, int, int], count: int, layout: str, dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """Random numbers; ``strided`` ones are the first columns of wider rows, of swapped axes.

    ``samples apart`` ones have one number more between samples, so that only the first is aligned.
    """
    batch, steps, size = shape
    g = torch.Generator().manual_seed(3)

    def randn(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=g).to(DEVICE, dtype)

    if layout == "strided":
        return [randn(steps, batch, size + 4).transpose(0, 1)[..., :size] for _ in range(count)]
    if layout == "samples apart":
        longer = [randn(batch, steps * size + 1) for _ in range(count)]
        return [x[:, :-1].unflatten(1, (steps, size)) for x in longer]
    return [randn(*shape) for _ in range(count)]


# Size, dropout and layout: 16 bytes over the ends of rows, aligned and unaligned columns of rows.
ACCESSES = [
    (33, 0.0, "contiguous"),
    (3, 0.0, "contiguous"),
    (32, 0.3, "contiguous"),
    (32, 0.3, "strided"),
    (33, 0.3, "contiguous"),
    (33, 0.0, "strided"),
    (12, 0.3, "contiguous"),
    (32, 0.0, "samples apart"),
]


@runs
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("size", "dropout_p", "layout"), ACCESSES)
def test_half_precision_is_rounded_once(
    size: int, dropout_p: float, layout: str, dtype: torch.dtype
) -> None:
    leaves = [t.requires_grad_() for t in tensors((3, 9, size), 4, layout, dtype)]
    lengths = torch.tensor([9, 0, 5], device=DEVICE)
    results = {}
    for backend in ("reference", "cuda"):
        with force_backend(backend):
            out = gated_mask(leaves[0], leaves[1:], lengths=lengths, dropout_p=dropout_p, seed=5)
        results[backend] = (out, *torch.autograd.grad(out.sum(), leaves))
    spacing = 2 * torch.finfo(dtype).eps
    for plain, ours in zip(results["reference"], results["cuda"]):
        assert ours.dtype == dtype
        assert torch.allclose(ours, plain, rtol=spacing, atol=spacing * 1e-2)


@runs
@pytest.mark.parametrize(("size", "dropout_p", "layout"), ACCESSES)
def test_nan_in_padding_does_not_matter(
    unwritten_is_nan: None, size: int, dropout_p: float, layout: str
) -> None:
    lengths = torch.tensor([9, 0, 5, 1], device=DEVICE)
    padding = torch.arange(9, device=DEVICE) >= lengths[:, None]
    results = []
    for value in (0.0, float("nan")):
        leaves = tensors((4, 9, size), 4, layout)
        for leaf in leaves:
            leaf[padding] = value
        *leaves, grad_out = leaves
        leaves = [leaf.requires_grad_() for leaf in leaves]
        with force_backend("cuda"):
            out = gated_mask(leaves[0], leaves[1:], lengths=lengths, dropout_p=dropout_p, seed=5)
        results.append((out, *torch.autograd.grad(out, leaves, grad_out)))
    for clean, poisoned in zip(*results):
        assert torch.equal(clean, poisoned)
        assert clean[padding].eq(0).all() and clean[~padding].ne(0).any()


@runs
def test_the_dropout_mask_is_the_one_of_every_backend() -> None:
    check_dropout_mask("cuda", DEVICE)


@runs
def test_only_asked_for_gradients_are_computed() -> None:
    check_asked_for_gradients("cuda", DEVICE)


@runs
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0)])
def test_nothing_at_all(shape: tuple[int, ...]) -> None:
    check_nothing("cuda", DEVICE, shape)


@runs
@pytest.mark.parametrize("operator", ["gated_mask", "gated_mask_backward"])
def test_opcheck(operator: str) -> None:
    check_operator("fusionkit_cuda", DEVICE, operator)


@runs
def test_gradients_numerically() -> None:
    check_numeric_gradients("cuda", DEVICE)


def test_what_it_does_not_take() -> None:
    x = torch.ones(1, 2, 3, dtype=torch.float64)
    reasons = "; ".join(gated_mask_reasons(x, [x] * 9, dropout_p=0.1, seed=1))
    assert "float64" in reasons and "9 gates" in reasons
    assert ("is on cpu" in reasons) == (not EMULATED)


@runs
def test_what_the_operator_refuses() -> None:
    x = torch.ones(2, 3, 4, device=DEVICE)
    one = torch.tensor([1], device=DEVICE)
    cases: list[tuple[tuple[Any, ...], str]] = [
        ((x, [], None, 0.0, None), "must hold 1 to 8 tensors, got 0"),
        ((x, [x] * 9, None, 0.0, None), "must hold 1 to 8 tensors, got 9"),
        ((x[0], [x], None, 0.0, None), r"x must be \(B, T, D\)"),
        ((x, [x[:, 1:]], None, 0.0, None), "gate_logits and x differ on axis 1"),
        ((x, [x.half()], None, 0.0, None), "gate_logits must have the device and dtype of x"),
        ((x.double(), [x], None, 0.0, None), "x must be float32, float16 or bfloat16"),
        ((x, [x], one, 0.0, None), "lengths must hold 2 numbers, got 1"),
        ((x, [x], one.int(), 0.0, None), "lengths must be int64 on the device"),
        ((x, [x], None, 1.0, one), r"dropout_p must be in \[0, 1\), got 1"),
        ((x, [x], None, 0.5, None), "seed is required when dropout_p > 0"),
    ]
    for arguments, message in cases:
        with pytest.raises(RuntimeError, match=message):
            torch.ops.fusionkit_cuda.gated_mask.default(*arguments)


@runs
def test_lengths_may_have_strides() -> None:
    x = torch.ones(2, 3, 4, device=DEVICE)
    lengths = torch.tensor([1, 9, 3, 9], device=DEVICE)[::2]
    with force_backend("cuda"):
        out = gated_mask(x, [x], lengths=lengths)
    assert out.ne(0).all(-1).sum(-1).tolist() == [1, 3]


def test_traced_without_a_device() -> None:
    check_tracing("fusionkit_cuda")
