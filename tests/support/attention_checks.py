"""What the kernels of cross-attention for GPUs are held to, whichever backend has them.

Every check takes the name of the backend and the device that its tensors are made on.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fusionkit.ops import cross_attention, force_backend
from fusionkit.ops.philox import keep_mask

from attention_cases import DENSE, INF, NAN, Case, Inputs, build, outputs_and_gradients, poison
from attention_devices import normal, run_on, upstream_of
from attention_truth import find_truth, must_be_zero, rows_without_result
from compiled_attention import check_compiled_for_any_size

NEEDS = ("query", "key", "value", "scores")
"""Gradients that the backward operators are asked for, by bit."""


def operator(backend: str, name: str) -> Any:
    """Such as ``torch.ops.fusionkit_cuda.cross_attention.default``."""
    return getattr(getattr(torch.ops, f"fusionkit_{backend}"), name).default


def one_case(**changes: Any) -> tuple[Case, Inputs]:
    """B2-H2-T21x33-D10-V12, float32, with lengths, a learnt bias and dropout."""
    options = {
        "seed": 4, "batch": 2, "heads": 2, "num_queries": 21, "num_keys": 33, "head_dim": 10,
        "value_dim": 12, "dtype": torch.float32, "layouts": DENSE, "has_key_lengths": True,
        "has_query_lengths": True, "bias_axes": "BHQK", "dropout_p": 0.3,
    }  # fmt: skip
    case = Case(**{**options, **changes})
    return case, build(case)


def check_accuracy(backend: str, device: str, case: Case, inputs: Inputs) -> None:
    """At most twice the error of plain PyTorch, plus 2 units.

    NaN stands in all padding and in gradients that arrive at rows without result, whose own results
    are zeros.
    """
    empty = rows_without_result(case, inputs)
    zero = must_be_zero(case, inputs, empty)
    upstream = upstream_of(case)
    truth = find_truth(inputs, [upstream])
    poison(inputs)
    upstream[empty] = NAN
    found = run_on(backend, device, inputs, [upstream])
    for name, rows in zero.items():
        assert not found[name][rows].any(), f"{name}, {case}"
    truth.check(found, str(case))


def check_dead_rows(backend: str, device: str, head_dim: int, dtype: torch.dtype) -> None:
    """A gradient that arrives at a row without result, NaN too, changes no bit of any other."""
    case, inputs = one_case(dtype=dtype, head_dim=head_dim)
    inputs.options["query_lengths"] = torch.tensor([20, 3])
    inputs.leaves["bias"].data[0, 1, 5] = -INF
    upstream = upstream_of(case)
    clean = upstream.clone()
    for x, filling in ((upstream, NAN), (clean, 0.0)):
        x[0, 1, 5] = x[0, :, 20:] = x[1, :, 3:] = filling
    got, want = (run_on(backend, device, inputs, [x]) for x in (upstream, clean))
    assert all(got[name].equal(want[name]) for name in want)


def check_dropout_mask(
    backend: str, device: str, *, rows: int, keys: int, head_dim: int, seed: int, p: float
) -> None:
    """That of `keep_mask`, bit for bit, and forward as backward.

    An identity as value gives the weights, one as upstream gradient gives them in backward.
    """
    query, key = (normal(2, 3, n, head_dim, seed=n, device=device) for n in (rows, keys))
    keep = keep_mask(seed, (2, 3, rows, keys), p, device)
    identity = torch.eye(keys, device=device).expand(2, 3, -1, -1)
    value = normal(2, 3, keys, rows, seed=3, device=device).requires_grad_()
    with force_backend(backend):
        undropped = cross_attention(query, key, identity)
        weights = cross_attention(query, key, identity, dropout_p=p, seed=seed)
        out = cross_attention(query, key, value, dropout_p=p, seed=torch.tensor(seed).to(device))
    assert weights.ne(0).equal(keep)
    torch.testing.assert_close(weights, undropped * keep / (1 - p))
    upstream = torch.eye(rows, device=device).expand(2, 3, -1, -1)
    (gradient,) = torch.autograd.grad(out, value, upstream)
    assert gradient.mT.ne(0).equal(keep)
    torch.testing.assert_close(gradient.mT, weights)


def check_asked_for_gradients(backend: str, device: str, head_dim: int) -> None:
    """Only they are computed, always to the same bits, and zeros where no key counts."""
    query, key, value, grad_out = (
        normal(2, 2, n, head_dim, seed=i, device=device) for i, n in enumerate((10, 23, 23, 10))
    )
    lengths, seed = (torch.tensor(n, device=device) for n in ([23, 9], 3))
    bias = normal(2, 1, 10, 23, seed=0, device=device)
    options = (bias, lengths, None, 0.5, 0.25, seed)
    inputs = (query, key, value)
    saved = operator(backend, "cross_attention")(*inputs, *options)
    backward = operator(backend, "cross_attention_backward")
    full = dict(zip(NEEDS, backward(grad_out, *inputs, *saved, *options, 0b1111), strict=True))
    for needs in range(15):
        wanted = [name for i, name in enumerate(NEEDS) if needs >> i & 1]
        some = backward(grad_out, *inputs, *saved, *options, needs)
        for name, gradient in zip(wanted, some, strict=True):
            assert gradient.equal(full[name]), (name, needs)
    assert not full["scores"][1, ..., 9:].any() and full["scores"][1, ..., :9].all()


def check_row_sums(backend: str, device: str, head_dim: int) -> None:
    """What forward saves makes the log-sum-exp of each row, and is 0 where a row has no result.

    The largest score is in natural units or in base 2, as the backend likes.
    """
    query, key, value = (
        normal(2, 1, n, head_dim, seed=n, device=device) for n in (21, 40, 40)
    )  # fmt: skip
    bias = normal(1, 1, 21, 40, seed=3, device=device)
    bias[:, 0, 5], bias[..., 7] = -INF, -INF
    key_lengths, query_lengths = (torch.tensor(n, device=device) for n in ([30, 0], [20, 21]))
    out, sums = operator(backend, "cross_attention")(
        query * 9, key, value, bias, key_lengths, query_lengths, 0.5, 0.0, None
    )
    scores = 0.5 * (query * 9).double() @ key.double().mT + bias.double()
    want = scores[0, 0, :20, :30].logsumexp(-1)
    largest, total = sums[0, 0, 0, :20].double(), sums[1, 0, 0, :20].double()
    unit = {"cuda": torch.tensor(2.0).log().item(), "triton": 1.0}[backend]
    empty = torch.ones(2, 1, 21, dtype=torch.bool, device=device)
    empty[0, 0, :20] = False
    empty[0, 0, 5] = True
    assert sums.dtype == torch.float32 and not sums[:, empty].any() and not out[empty].any()
    found = largest * unit + total.log()
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-5)


def check_nan_is_not_hidden(backend: str, device: str, name: str, head_dim: int) -> None:
    """NaN in a valid step of an input reaches just what it reaches by the definition."""
    sizes = {"query": 21, "key": 33, "value": 33}
    leaves = {n: normal(2, 2, t, head_dim, seed=t, device=device) for n, t in sizes.items()}
    leaves[name][0, 0, 17, 2] = leaves[name][1, 0, 2, 1] = NAN
    lengths: dict[str, Any] = {
        "key_lengths": torch.tensor([33, 3], device=device),
        "query_lengths": torch.tensor([21, 9], device=device),
    }
    inputs = Inputs({n: x.requires_grad_() for n, x in leaves.items()}, lengths, {})
    results = []
    for which in ("reference", backend):
        with force_backend(which):
            results.append(outputs_and_gradients(cross_attention, inputs))
    for result, right in results[0].items():
        assert results[1][result].isnan().equal(right.isnan()), result


def check_large_offsets(backend: str, device: str, offset: float, head_dim: int) -> None:
    """Finite stand-ins for -inf on a whole row: its weights still sum to 1, backward too."""
    query, key, value = (
        normal(2, 2, 20, head_dim, seed=k, device=device).requires_grad_() for k in range(3)
    )
    bias = torch.zeros(20, 20, device=device)
    bias[:, 10:], bias[3] = offset, offset
    upstream = normal(2, 2, 20, head_dim, seed=3, device=device)
    results = []
    for which in (backend, "reference"):
        with force_backend(which):
            out = cross_attention(query, key, value, bias=bias)
        gradients = torch.autograd.grad(out, (query, key, value), upstream)
        results.append([out.detach(), *gradients])
    # What is left of a score beside the offset is rounding, and the same for both.
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    assert results[0][0][:, :, 3].abs().max() > 0


EMPTY_AXES = {
    "B0": (0, 2, 3, 4, 5, 6), "H0": (2, 0, 3, 4, 5, 6), "Tq0": (2, 2, 0, 4, 5, 6),
    "Tk0": (2, 2, 3, 0, 5, 6), "Dv0": (2, 2, 3, 4, 5, 0), "wide Tk0": (2, 2, 3, 0, 40, 40),
    "wide Tq0": (2, 2, 0, 3, 40, 40),
}  # fmt: skip
"""(B, H, Tq, Tk, D, Dv)"""


def check_empty_axes(
    backend: str, device: str, shape: tuple[int, ...], dtype: torch.dtype = torch.float32
) -> None:
    """Zeros of the right shapes, whether by the operators alone or with what is around them."""
    b, h, tq, tk, d, dv = shape
    query, key, value = (
        normal(b, h, *rest, seed=0, device=device).to(dtype)
        for rest in ((tq, d), (tk, d), (tk, dv))
    )
    options = (torch.zeros(b, h, tq, tk, device=device), None, None, 0.5, 0.0, None)
    inputs = (query, key, value)
    out, sums = operator(backend, "cross_attention")(*inputs, *options)
    assert out.shape == (b, h, tq, dv) and out.dtype == dtype and not out.any()
    assert sums.shape == (2, b, h, tq) and (tk != 0 or not sums.any())
    backward = operator(backend, "cross_attention_backward")
    found = backward(torch.ones_like(out), *inputs, out, sums, *options, 0b1111)
    for gradient, like in zip(found, (*inputs, options[0]), strict=True):
        assert gradient.shape == like.shape and not gradient.any()
    leaves = {"query": query, "key": key, "value": value, "bias": torch.zeros(tk, device=device)}
    with force_backend(backend):
        got = outputs_and_gradients(
            cross_attention, Inputs({n: x.requires_grad_() for n, x in leaves.items()}, {}, {})
        )
    assert got["output"].shape == out.shape and not any(x.any() for x in got.values())


def check_operators(backend: str, device: str, dtype: torch.dtype) -> None:
    """`torch.library.opcheck` of the forward and the backward operator."""
    inputs = [
        normal(2, n, 2, 5, seed=n, device=device).to(dtype).transpose(1, 2) for n in (3, 4, 4)
    ]
    key_lengths, query_lengths = (torch.tensor(n, device=device) for n in ([4, 1], [0, 3]))
    bias, seed = normal(1, 1, 3, 4, seed=1, device=device), torch.tensor(3).to(device)
    options = (bias, key_lengths, query_lengths, 0.4, 0.3, seed)
    forward = operator(backend, "cross_attention")
    torch.library.opcheck(forward, (*inputs, *options))
    out, sums = forward(*inputs, *options)
    arguments = (torch.ones_like(out), *inputs, out, sums, *options)
    for needs in (0b1111, 0b1011):
        torch.library.opcheck(
            operator(backend, "cross_attention_backward"), (*arguments, needs)
        )  # fmt: skip


def check_numeric_gradients(backend: str, device: str) -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    leaves = [
        normal(1, 2, n, 3, seed=i, device=device).requires_grad_() for i, n in enumerate((4, 5, 5))
    ]
    bias = normal(4, 5, seed=9, device=device).requires_grad_()

    def call(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        with force_backend(backend):
            return cross_attention(query, key, value, bias=bias, dropout_p=0.3, seed=7)

    assert torch.autograd.gradcheck(
        call, (*leaves, bias), eps=1e-2, atol=5e-3, rtol=5e-3, fast_mode=True
    )


def check_second_derivatives(backend: str, device: str) -> None:
    """Those of the reference, with the same dropout mask."""
    found = []
    for which in (backend, "reference"):
        leaves = [normal(1, 2, n, 5, seed=n, device=device).requires_grad_() for n in (4, 6, 7)]
        query, key, value = leaves[0], leaves[1], leaves[2][:, :, :6]
        with force_backend(which):
            out = cross_attention(query, key, value, dropout_p=0.2, seed=3)
            gradients = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        found.append(torch.autograd.grad([g.square().sum() for g in gradients], leaves))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs)


def check_compiled(backend: str, device: str) -> None:
    """One tensor may be given twice, as key and value, and as both lengths."""

    def attend(query: Tensor, key: Tensor, lengths: Tensor, seed: Tensor) -> list[Tensor]:
        bias = query[0, 0, :, :1]
        out = cross_attention(
            query * 2, key, key, key_lengths=lengths, query_lengths=lengths, bias=bias,
            dropout_p=0.2, seed=seed,
        )  # fmt: skip
        return [out]

    check_compiled_for_any_size(backend, device, attend, heads=2)


def check_tracing(backend: str) -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        query, key, value = (
            torch.empty(2, n, 3, d, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
            for n, d in ((7, 5), (9, 5), (9, 6))
        )
        options = (None, None, None, 0.5, 0.0, None)
        out, sums = operator(backend, "cross_attention")(query, key, value, *options)
        back = operator(backend, "cross_attention_backward")(
            out, query, key, value, out, sums, *options, 0b1110
        )
    assert out.device.type == "cuda" and out.dtype == torch.bfloat16
    assert out.shape == (2, 3, 7, 6) and out.stride() == (126, 6, 18, 1)
    assert sums.shape == (2, 2, 3, 7) and sums.dtype == torch.float32
    assert [x.shape for x in back] == [key.shape, value.shape, (2, 3, 7, 9)]
    assert back[2].dtype == torch.float32
