"""What the gated mask's kernels for GPUs are held to, whichever backend has them.

Every check takes the name of the backend and the device that its tensors are made on.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops import force_backend, gated_mask
from fusionkit.ops.philox import keep_mask

from gated_mask_cases import KERNEL_DTYPES, draw, exact, largest, run


def check_accuracy(backend: str, device: str, seeds: range, builds: int | None = None) -> None:
    """At most twice plain PyTorch's error and two spacings, and every element written."""
    for seed in seeds:
        dtype = KERNEL_DTYPES[seed % len(KERNEL_DTYPES)]
        case = draw(seed, dtype, builds).to(device)
        right = exact(case)
        found = zip(right, run(case, "reference"), run(case, backend))
        for i, (r, plain, ours) in enumerate(found):
            theirs = min(largest(plain - r, r, dtype), 2.0)
            assert largest(ours - r, r, dtype) <= 2 * theirs + 2, f"{i}, {case.name}"
            assert ours[r == 0].eq(0).all(), f"{i}, {case.name}"


def check_dropout_mask(backend: str, device: str) -> None:
    """The one of `keep_mask`, bit for bit."""
    for seed, shape in zip(count(-2), [(2, 5, 3), (1, 3, 4), (3, 2, 130), (2, 7, 257)]):
        ones = torch.ones(shape, device=device)
        with force_backend(backend):
            out = gated_mask(ones, [ones], dropout_p=0.5, seed=torch.tensor(seed).to(device))
        batch, steps, size = shape
        kept = keep_mask(seed, (batch, 1, steps, size), 0.5, device)[:, 0]
        assert torch.equal(out != 0, kept)


def check_asked_for_gradients(backend: str, device: str) -> None:
    """Some inputs need one and others do not."""
    x, first, second = (torch.randn(2, 3, 5, device=device) for _ in range(3))
    for wanted in ([x], [second], [first, second], [x, second]):
        results = []
        for name in ("reference", backend):
            for t in (x, first, second):
                t.requires_grad_(any(t is w for w in wanted))
            with force_backend(name):
                out = gated_mask(x, [first, second])
            results.append(torch.autograd.grad(out.sum(), wanted))
        for plain, ours in zip(*results):
            torch.testing.assert_close(ours, plain)


def check_nothing(backend: str, device: str, shape: tuple[int, ...]) -> None:
    """Shapes without an element."""
    x, gate = (torch.ones(shape, device=device, requires_grad=True) for _ in range(2))
    with force_backend(backend):
        out = gated_mask(x, [gate], dropout_p=0.2, seed=1)
    grads = torch.autograd.grad(out.sum(), [x, gate])
    assert [t.shape for t in (out, *grads)] == [torch.Size(shape)] * 3


def check_operator(namespace: str, device: str, operator: str) -> None:
    """`torch.library.opcheck` of the forward or the backward operator."""
    x, first, second, grad = (torch.randn(2, 3, 5, device=device) for _ in range(4))
    rest: tuple[Any, ...] = (torch.tensor([3, 1], device=device), 0.25, torch.tensor(3).to(device))
    arguments: tuple[Any, ...] = (x, [first, second], *rest)
    if operator == "gated_mask_backward":
        arguments = (grad, *arguments, 5)
    torch.library.opcheck(getattr(getattr(torch.ops, namespace), operator).default, arguments)


def check_numeric_gradients(backend: str, device: str) -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    x, gate = (torch.randn(2, 3, 4, device=device, requires_grad=True) for _ in range(2))

    def call(x: Tensor, gate: Tensor) -> Tensor:
        with force_backend(backend):
            return gated_mask(x, [gate], dropout_p=0.3, seed=7)

    assert torch.autograd.gradcheck(call, (x, gate), eps=1e-2, atol=2e-3, rtol=2e-3)


def check_tracing(namespace: str) -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    operators = getattr(torch.ops, namespace)
    with FakeTensorMode():
        x = torch.empty(2, 3, 5, device="cuda", dtype=torch.bfloat16)
        out = operators.gated_mask.default(x, [x, x], None, 0.0, None)
        back = operators.gated_mask_backward.default(out, x, [x, x], None, 0.0, None, 6)
    assert out.device.type == "cuda" and out.dtype == torch.bfloat16
    assert [t.shape for t in back] == [x.shape] * 2
