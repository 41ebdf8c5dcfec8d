"""The CUDA cross-attention against float64: in the emulator on the CPU, or on a device."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import cross_attention, force_backend
from fusionkit.ops.cuda_runtime import EMULATED
from fusionkit.ops.philox import keep_mask

from attention_cases import DENSE, INF, NAN, Case, Inputs, build, poison
from attention_devices import draw_small, run_on, upstream_of
from attention_truth import find_truth
from fuzz import blocks

runs = pytest.mark.usefixtures("cuda_kernels")
DEVICE = "cpu" if EMULATED else "cuda"
ORDERS = ("forward", "reverse", "shuffled")
NEEDS = ("query", "key", "value", "scores")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def one_case(**changes: Any) -> tuple[Case, Inputs]:
    """B2-H2-T21x33-D10-V12, float32, with lengths, a learnt bias and dropout."""
    options = {
        "seed": 4, "batch": 2, "heads": 2, "num_queries": 21, "num_keys": 33, "head_dim": 10,
        "value_dim": 12, "dtype": torch.float32, "layouts": DENSE, "has_key_lengths": True,
        "has_query_lengths": True, "bias_axes": "BHQK", "dropout_p": 0.3,
    }  # fmt: skip
    case = Case(**{**options, **changes})
    return case, build(case)


def assert_accurate(case: Case, inputs: Inputs) -> None:
    upstream = upstream_of(case)
    truth = find_truth(inputs, [upstream])
    poison(inputs)
    truth.check(run_on("cuda", DEVICE, inputs, [upstream]), str(case))


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = torch.ops.fusionkit_cuda.cross_attention(
        query, key, value, bias, lengths, None, 0.5, dropout_p,
        None if seed is None else torch.tensor(seed).to(DEVICE),
    )  # fmt: skip
    return result


def backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, needs: int = 0b1111, **options: Any
) -> dict[str, Tensor]:
    """Gradients by name, those that the bits of ``needs`` ask for."""
    out, sums = forward(query, key, value, **options)
    seed = options.get("seed")
    gradients = torch.ops.fusionkit_cuda.cross_attention_backward(
        grad_out, query, key, value, out, sums, options.get("bias"), options.get("lengths"), None,
        0.5, options.get("dropout_p", 0.0), None if seed is None else torch.tensor(seed).to(DEVICE),
        needs,
    )  # fmt: skip
    return dict(zip((n for i, n in enumerate(NEEDS) if needs >> i & 1), gradients, strict=True))


@runs
@pytest.mark.parametrize("seeds", blocks(0.06))
def test_fuzz(monkeypatch: pytest.MonkeyPatch, unwritten_is_nan: None, seeds: range) -> None:
    """At most twice the error of plain PyTorch, plus 2 units; NaN in padding and new memory."""
    for seed in seeds:
        monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", ORDERS[seed % 3])
        case = draw_small(seed, 128)
        assert_accurate(case, build(case))


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("head_dim", "steps"), [(3, 270), (8, 270), (16, 140), (32, 70), (64, 70), (128, 40)]
)
def test_several_tiles(head_dim: int, steps: int, dtype: torch.dtype) -> None:
    """More keys and more rows than shared memory holds at once."""
    for queries, keys in ((9, steps), (steps, 9)):
        assert_accurate(
            *one_case(
                batch=1, heads=1, num_queries=queries, num_keys=keys, head_dim=head_dim,
                value_dim=head_dim, dtype=dtype, has_key_lengths=False, has_query_lengths=False,
                bias_axes="",
            )
        )  # fmt: skip


@runs
def test_the_same_bits_in_any_order_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    for head_dim in (10, 40):
        case, inputs = one_case(head_dim=head_dim)
        results = []
        for order in (*ORDERS, "shuffled"):
            monkeypatch.setenv("FUSIONKIT_EMULATED_ORDER", order)
            results.append(run_on("cuda", DEVICE, inputs, [upstream_of(case)]))
        for first, second in pairwise(results):
            assert all(first[name].equal(second[name]) for name in first)


@runs
@pytest.mark.parametrize("head_dim", [8, 40])
@pytest.mark.parametrize("num_keys", [1, 5, 50])
def test_the_dropout_mask_is_that_of_philox(num_keys: int, head_dim: int) -> None:
    """An identity as value gives the weights, one as upstream gradient gives them in backward."""
    rows = 9
    query, key = normal(2, 3, rows, head_dim, seed=0), normal(2, 3, num_keys, head_dim, seed=1)
    for seed, p in ((1, 0.5), (-(2**62) - 3, 0.01), (2**40 + 7, 0.9)):
        options: dict[str, Any] = {"dropout_p": p, "seed": seed}
        value = torch.eye(num_keys, device=DEVICE).expand(2, 3, -1, -1)
        weights, _ = forward(query, key, value, **options)
        keep = keep_mask(seed, (2, 3, rows, num_keys), p, DEVICE)
        assert weights.ne(0).equal(keep)
        undropped, _ = forward(query, key, value)
        torch.testing.assert_close(weights, undropped * keep / (1 - p))
        identity = torch.eye(rows, device=DEVICE).expand(2, 3, -1, -1)
        gradients = backward(identity, query, key, normal(2, 3, num_keys, rows, seed=2), **options)
        assert gradients["value"].mT.ne(0).equal(keep)
        torch.testing.assert_close(gradients["value"].mT, weights)


@runs
def test_only_the_wanted_gradients_come_back() -> None:
    grad_out, query, key, value = (
        normal(2, 2, n, 7, seed=i) for i, n in enumerate((10, 10, 23, 23))
    )
    options: Any = {
        "lengths": torch.tensor([23, 9]).to(DEVICE), "bias": normal(2, 1, 10, 23, seed=0)
    }  # fmt: skip
    full = backward(grad_out, query, key, value, 0b1111, **options)
    for needs in range(15):
        some = backward(grad_out, query, key, value, needs, **options)
        assert len(some) == needs.bit_count()
        for name, gradient in some.items():
            assert gradient.equal(full[name]), (name, needs)
    assert not full["scores"][1, ..., 9:].any() and full["scores"][1, ..., :9].all()


@runs
@pytest.mark.parametrize("head_dim", [6, 50])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_rounded_at_the_end(dtype: torch.dtype, head_dim: int) -> None:
    """Close to the reference, which computes in float32, rather than to PyTorch in this dtype."""
    case, inputs = one_case(dtype=dtype, head_dim=head_dim, bias_axes="QK", learns_bias=False)
    plain, ours = (
        run_on(backend, DEVICE, inputs, [upstream_of(case)]) for backend in ("reference", "cuda")
    )
    eps = torch.finfo(dtype).eps
    for name in plain:
        assert ours[name].dtype == dtype
        # Wide heads go to the tensor cores, which take weights and gradients in this dtype.
        rounded_once = name == "output" and head_dim <= 16
        atol = eps / 100 if rounded_once else eps * plain[name].abs().max().item()
        torch.testing.assert_close(ours[name], plain[name], rtol=eps, atol=atol)


@runs
@pytest.mark.parametrize("offset", [-1e4, -1e30, torch.finfo(torch.float32).min])
def test_large_offsets_of_whole_rows(offset: float) -> None:
    """The usual finite stand-ins for -inf: such a row's weights still sum to 1, backward too."""
    query, key, value = (normal(2, 2, 20, 8, seed=k).requires_grad_() for k in range(3))
    bias = torch.zeros(20, 20, device=DEVICE)
    bias[:, 10:], bias[3] = offset, offset
    results = {}
    for backend in ("cuda", "reference"):
        with force_backend(backend):
            out = cross_attention(query, key, value, bias=bias)
        gradients = torch.autograd.grad(out, (query, key, value), normal(2, 2, 20, 8, seed=3))
        results[backend] = [out.detach(), *gradients]
    # What is left of a score beside the offset is rounding, and the same for both.
    for found, expected in zip(results["cuda"], results["reference"]):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    assert results["cuda"][0][:, :, 3].abs().max() > 0


@runs
@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_valid_inputs_is_not_hidden(name: str) -> None:
    """It reaches just what it reaches by the definition."""
    case, inputs = one_case(dropout_p=0.0, bias_axes="")
    inputs.options.update(key_lengths=torch.tensor([33, 3]), query_lengths=torch.tensor([21, 9]))
    x = inputs.leaves[name].detach().clone()
    x[0, 0, 17, 3] = x[1, 0, 2, 1] = NAN
    inputs.leaves[name] = x.requires_grad_()
    want, got = (
        run_on(backend, DEVICE, inputs, [upstream_of(case)]) for backend in ("reference", "cuda")
    )
    for result, right in want.items():
        assert got[result].isnan().equal(right.isnan()), result


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4, 5, 6), (2, 0, 3, 4, 5, 6), (2, 2, 0, 4, 5, 6), (2, 2, 3, 0, 5, 6),
              (2, 2, 3, 4, 5, 0), (2, 2, 3, 0, 40, 40), (2, 2, 0, 3, 40, 40)],
    ids=["B0", "H0", "Tq0", "Tk0", "Dv0", "wide Tk0", "wide Tq0"],
)  # fmt: skip
def test_empty_axes(unwritten_is_nan: None, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    b, h, tq, tk, d, dv = shape
    query, key, value = (
        normal(b, h, *rest, seed=0).to(dtype) for rest in ((tq, d), (tk, d), (tk, dv))
    )
    out, sums = forward(query, key, value)
    assert out.shape == (b, h, tq, dv) and not out.any()
    assert sums.shape == (2, b, h, tq) and (tk != 0 or not sums.any())
    bias = torch.zeros(b, h, tq, tk, device=DEVICE)
    gradients = backward(torch.ones_like(out), query, key, value, bias=bias)
    for name, like in {"query": query, "key": key, "value": value, "scores": bias}.items():
        assert gradients[name].shape == like.shape and not gradients[name].any()


@runs
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("head_dim", [10, 40])
def test_gradients_that_arrive_at_rows_without_result_go_nowhere(
    head_dim: int, dtype: torch.dtype
) -> None:
    case, inputs = one_case(dtype=dtype, head_dim=head_dim)
    inputs.options["query_lengths"] = torch.tensor([20, 3])
    inputs.leaves["bias"].data[0, 1, 5] = -INF
    upstream = upstream_of(case)
    clean = upstream.clone()
    for x, filling in ((upstream, NAN), (clean, 0.0)):
        x[0, 1, 5] = x[0, :, 20:] = x[1, :, 3:] = filling
    got, want = (run_on("cuda", DEVICE, inputs, [x]) for x in (upstream, clean))
    assert all(got[name].equal(want[name]) for name in want)


@runs
def test_gradients_numerically() -> None:
    """In float32, with a tolerance to match: the kernels know no float64."""
    leaves = [normal(1, 2, n, 3, seed=i).requires_grad_() for i, n in enumerate((4, 5, 5))]
    bias = normal(4, 5, seed=9).requires_grad_()

    def call(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        with force_backend("cuda"):
            return cross_attention(query, key, value, bias=bias, dropout_p=0.3, seed=7)

    assert torch.autograd.gradcheck(call, (*leaves, bias), eps=1e-2, atol=3e-3, rtol=3e-3)
