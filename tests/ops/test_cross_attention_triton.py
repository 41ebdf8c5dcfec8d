"""The Triton cross-attention against float64: in Triton's interpreter, or on a device."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import cross_attention, force_backend
from fusionkit.ops.cross_attention.triton import attention_reasons
from fusionkit.ops.philox import keep_mask
from fusionkit.ops.triton_runtime import INTERPRETING, triton_absence

from attention_cases import (
    BIAS_AXES,
    INF,
    LAYOUTS,
    NAN,
    Case,
    Inputs,
    build,
    outputs_and_gradients,
    poison,
)
from attention_truth import find_truth, must_be_zero, rows_without_result
from fuzz import blocks

runs = pytest.mark.skipif(
    bool(triton_absence()), reason=f"{triton_absence()}; or run with TRITON_INTERPRET=1"
)
DEVICE = "cpu" if INTERPRETING else "cuda"
NEEDS = ("query", "key", "value", "scores")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def lengths(*given: int) -> Tensor:
    return torch.tensor(given, device=DEVICE)


def on_triton(inputs: Inputs, upstream: list[Tensor] | None = None) -> dict[str, Tensor]:
    with force_backend("triton"):
        return outputs_and_gradients(cross_attention, inputs, upstream)


def draw_few(seed: int) -> Case:
    """What the kernels take, in few programs: more than one tile each way now and then."""
    r = Random(seed)

    def dim() -> int:
        return r.choice([r.randint(1, 16), r.choice([5, 10, 25, 30, 40]), r.randint(50, 256)])

    head_dim = dim()
    steps = 40 if head_dim > 30 else 70
    return Case(
        seed=seed,
        batch=r.randint(1, 2),
        heads=r.randint(1, 2),
        num_queries=r.choice([r.randint(0, 9), r.randint(1, steps)]),
        num_keys=r.choice([r.randint(0, 9), r.randint(1, steps)]),
        head_dim=head_dim,
        value_dim=r.choice([head_dim, head_dim, r.randint(1, 40)]),
        dtype=r.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16]),
        layouts=(r.choice(LAYOUTS), r.choice(LAYOUTS), r.choice(LAYOUTS)),
        has_key_lengths=r.random() < 0.6,
        has_query_lengths=r.random() < 0.5,
        bias_axes=r.choice(BIAS_AXES) if r.random() < 0.5 else "",
        dropout_p=r.choice([0.0, 0.1, 0.75]),
        spread=r.choice([0.3, 1.0, 1.0, 5.0]),
        learns_bias=r.random() < 0.7,
    )


@runs
@pytest.mark.parametrize("seeds", blocks(0.007))
def test_fuzz(unwritten_is_nan: None, seeds: range) -> None:
    """At most twice the error of plain PyTorch and two units.

    NaN stands in all padding, in new memory, and in gradients that arrive at empty rows.
    """
    for seed in seeds:
        case = draw_few(seed)
        inputs = build(case)
        empty = rows_without_result(case, inputs)
        zero = must_be_zero(case, inputs, empty)
        g = torch.Generator().manual_seed(seed)
        upstream = torch.randn(*empty.shape, case.value_dim, generator=g).to(case.dtype)
        truth = find_truth(inputs, [upstream])
        poison(inputs)
        upstream[empty] = NAN
        found = on_triton(inputs.to(DEVICE), [upstream.to(DEVICE)])
        got = {name: x.cpu() for name, x in found.items()}
        for name, rows in zero.items():
            assert not got[name][rows].any(), f"{name}, {case}"
        truth.check(got, str(case))


@runs
def test_the_dropout_mask_is_that_of_philox() -> None:
    """An identity as value gives the weights, one as upstream gradient gives them in backward."""
    for i, (rows, keys, seed, p) in enumerate(
        ((3, 70, 2**40 + 7, 0.5), (35, 6, -(2**62) - 3, 0.9))
    ):
        query, key = normal(2, 2, rows, 8, seed=i), normal(2, 2, keys, 8, seed=i + 2)
        keep = keep_mask(seed, (2, 2, rows, keys), p, DEVICE)
        identity = torch.eye(keys, device=DEVICE).expand(2, 2, -1, -1)
        value = normal(2, 2, keys, rows, seed=i + 4).requires_grad_()
        with force_backend("triton"):
            weights = cross_attention(query, key, identity, dropout_p=p, seed=seed)
            out = cross_attention(
                query, key, value, dropout_p=p, seed=torch.tensor(seed).to(DEVICE)
            )
        assert weights.ne(0).equal(keep)
        upstream = torch.eye(rows, device=DEVICE).expand(2, 2, -1, -1)
        (gradient,) = torch.autograd.grad(out, value, upstream)
        assert gradient.mT.ne(0).equal(keep)
        torch.testing.assert_close(gradient.mT, weights)


@runs
def test_only_asked_for_gradients_are_computed_and_always_the_same() -> None:
    query, key, value, grad_out = (normal(1, 2, n, 7, seed=n) for n in (5, 9, 9, 5))
    options = (normal(1, 1, 5, 9, seed=0), lengths(8), None, 0.5, 0.25, torch.tensor(3).to(DEVICE))
    inputs = (query, key, value)
    saved = torch.ops.fusionkit_triton.cross_attention(*inputs, *options)
    backward = torch.ops.fusionkit_triton.cross_attention_backward
    full = dict(zip(NEEDS, backward(grad_out, *inputs, *saved, *options, 0b1111)))
    for needs in (0b0001, 0b0010, 0b0100, 0b1000, 0b0110, 0b1101):
        wanted = [name for i, name in enumerate(NEEDS) if needs >> i & 1]
        some = backward(grad_out, *inputs, *saved, *options, needs)
        for name, gradient in zip(wanted, some, strict=True):
            assert gradient.equal(full[name]), (name, needs)


@runs
def test_row_sums_make_the_log_sum_exp() -> None:
    query, key, value = (normal(2, 1, n, 9, seed=n) for n in (21, 40, 40))
    bias = normal(1, 1, 21, 40, seed=3)
    bias[:, 0, 5], bias[..., 7] = -INF, -INF
    out, sums = torch.ops.fusionkit_triton.cross_attention(
        query * 9, key, value, bias, lengths(30, 0), lengths(20, 21), 0.5, 0.0, None
    )
    scores = 0.5 * (query * 9).double() @ key.double().mT + bias.double()
    want = scores[0, 0, :20, :30].logsumexp(-1)
    lse = sums[0, 0, 0, :20].double() + sums[1, 0, 0, :20].double().log()
    empty = torch.ones(2, 1, 21, dtype=torch.bool, device=DEVICE)
    empty[0, 0, :20] = False
    empty[0, 0, 5] = True
    assert sums.dtype == torch.float32 and not sums[:, empty].any() and not out[empty].any()
    torch.testing.assert_close(lse, want, rtol=1e-5, atol=1e-5)


@runs
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_valid_inputs_is_not_hidden(name: str) -> None:
    """It reaches just what it reaches by the definition."""
    leaves = {n: normal(2, 1, t, 4, seed=t) for n, t in (("query", 6), ("key", 9), ("value", 9))}
    leaves[name][0, 0, 3, 2] = leaves[name][1, 0, 2, 1] = NAN
    options: dict[str, Any] = {"key_lengths": lengths(9, 4)}
    inputs = Inputs({n: x.requires_grad_() for n, x in leaves.items()}, options, {})
    with force_backend("reference"):
        want = outputs_and_gradients(cross_attention, inputs)
    for result, found in on_triton(inputs).items():
        assert found.isnan().equal(want[result].isnan()), result


@runs
@pytest.mark.parametrize("offset", [-1e4, -1e30, torch.finfo(torch.float32).min])
def test_large_offsets_of_whole_rows(offset: float) -> None:
    """The usual finite stand-ins for -inf: such a row's weights still sum to 1, backward too."""
    query, key, value = (normal(1, 2, 20, 8, seed=k).requires_grad_() for k in range(3))
    bias = torch.zeros(20, 20, device=DEVICE)
    bias[:, 10:], bias[3] = offset, offset
    results = []
    for backend in ("triton", "reference"):
        with force_backend(backend):
            out = cross_attention(query, key, value, bias=bias)
        gradients = torch.autograd.grad(out, (query, key, value), normal(1, 2, 20, 8, seed=3))
        results.append([out.detach(), *gradients])
    for found, expected in zip(*results):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    assert results[0][0][:, :, 3].abs().max() > 0


@runs
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4, 5, 6), (2, 0, 3, 4, 5, 6), (1, 1, 0, 4, 5, 6), (1, 1, 3, 0, 5, 6),
              (1, 1, 3, 4, 5, 0)],
    ids=["B0", "H0", "Tq0", "Tk0", "Dv0"],
)  # fmt: skip
def test_empty_axes(unwritten_is_nan: None, shape: tuple[int, ...]) -> None:
    b, h, tq, tk, d, dv = shape
    query, key, value = (normal(b, h, *rest, seed=0) for rest in ((tq, d), (tk, d), (tk, dv)))
    inputs = Inputs(
        {"query": query, "key": key, "value": value, "bias": normal(tk, seed=1)}, {}, {}
    )
    for x in inputs.leaves.values():
        x.requires_grad_()
    got = on_triton(inputs)
    assert got["output"].shape == (b, h, tq, dv)
    assert not any(x.any() for x in got.values())


@runs
@pytest.mark.parametrize("operator", ["cross_attention", "cross_attention_backward"])
def test_opcheck(operator: str) -> None:
    inputs = [normal(1, n, 2, 5, seed=n).transpose(1, 2) for n in (3, 4, 4)]
    bias = normal(1, 2, 1, 4, seed=1)
    options: tuple[Any, ...] = (bias, lengths(3), None, 0.4, 0.3, torch.tensor(3).to(DEVICE))
    arguments: tuple[Any, ...] = (*inputs, *options)
    if operator == "cross_attention_backward":
        saved = torch.ops.fusionkit_triton.cross_attention.default(*arguments)
        arguments = (torch.ones_like(saved[0]), *inputs, *saved, *options, 0b1111)
    torch.library.opcheck(getattr(torch.ops.fusionkit_triton, operator).default, arguments)


@runs
def test_gradients_numerically() -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    leaves = [normal(1, 1, n, 3, seed=n).requires_grad_() for n in (2, 4, 4)]
    bias = normal(1, 4, seed=1).requires_grad_()

    def call(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        with force_backend("triton"):
            return cross_attention(query, key, value, bias=bias, dropout_p=0.3, seed=7)

    assert torch.autograd.gradcheck(
        call, (*leaves, bias), eps=1e-2, atol=5e-3, rtol=5e-3, fast_mode=True
    )


@runs
def test_second_derivatives_are_those_of_the_reference() -> None:
    found = []
    for backend in ("triton", "reference"):
        leaves = [normal(1, 2, n, 5, seed=n).requires_grad_() for n in (4, 6, 7)]
        query, key, value = leaves[0], leaves[1], leaves[2][:, :, :6]
        with force_backend(backend):
            out = cross_attention(query, key, value, dropout_p=0.2, seed=3)
            gradients = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
        found.append(torch.autograd.grad([g.square().sum() for g in gradients], leaves))
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs)


@runs
def test_compiled_in_one_graph() -> None:
    def itself(x: Tensor, y: Tensor, n: Tensor) -> Tensor:
        return cross_attention(x * 2, y, y, key_lengths=n)

    functions: list[Any] = [torch.compile(itself, fullgraph=True, backend="aot_eager"), itself]
    results = []
    for function in functions:
        leaves = [normal(1, 2, n, 5, seed=n).requires_grad_() for n in (3, 4)]
        with force_backend("triton"):
            out = function(*leaves, lengths(3))
            results.append([out, *torch.autograd.grad(out.square().sum(), leaves)])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b)


def test_what_it_does_not_take() -> None:
    x, wide = torch.ones(1, 1, 2, 3, dtype=torch.float64), torch.ones(1, 1, 2, 257)
    reasons = "; ".join(attention_reasons(x, x, wide, bias=x, return_weights=True))
    for part in ("query is torch.float64", "3 and 257", "return_weights", "bias is float64"):
        assert part in reasons
    assert ("is on cpu" in reasons) == (not INTERPRETING)


def test_traced_without_a_device() -> None:
    """Shapes on ``cuda`` can be found out on a machine that has no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        query, key, value = (
            torch.empty(2, n, 3, d, device="cuda", dtype=torch.bfloat16).transpose(1, 2)
            for n, d in ((7, 5), (9, 5), (9, 6))
        )
        options = (None, None, None, 0.5, 0.0, None)
        saved = torch.ops.fusionkit_triton.cross_attention.default(query, key, value, *options)
        back = torch.ops.fusionkit_triton.cross_attention_backward.default(
            saved[0], query, key, value, *saved, *options, 0b1110
        )
    assert saved[0].device.type == "cuda" and saved[0].dtype == torch.bfloat16
    assert saved[0].shape == (2, 3, 7, 6) and saved[0].stride() == (126, 6, 18, 1)
    assert saved[1].shape == (2, 2, 3, 7) and saved[1].dtype == torch.float32
    assert [x.shape for x in back] == [key.shape, value.shape, (2, 3, 7, 9)]
    assert back[2].dtype == torch.float32
