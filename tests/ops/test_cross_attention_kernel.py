"""The compiled cross-attention through its raw operators, on every instruction set."""

from __future__ import annotations

import math
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.ops import cross_attention, force_backend
from fusionkit.ops.cross_attention.reference import run_reference
from fusionkit.ops.philox import keep_mask

from attention_cases import (
    INF,
    NAN,
    Case,
    Inputs,
    build,
    outputs_and_gradients,
    takers,
)
from attention_truth import find_truth

EPS = torch.finfo(torch.float32).eps
NEEDS = ("query", "key", "value", "scores")


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | None = None,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float = 0.5,
    dropout_p: float = 0.0,
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = torch.ops.fusionkit.cross_attention(
        query, key, value, bias, key_lengths, query_lengths, scale, dropout_p,
        None if seed is None else torch.tensor(seed),
    )  # fmt: skip
    return result


def backward(
    grad_out: Tensor, query: Tensor, key: Tensor, value: Tensor, needs: int = 0b1111, **options: Any
) -> dict[str, Tensor]:
    """Gradients by name, those that the bits of ``needs`` ask for."""
    out, sums = forward(query, key, value, **options)
    seed = options.get("seed")
    gradients = torch.ops.fusionkit.cross_attention_backward(
        grad_out, query, key, value, out, sums,
        *(options.get(name) for name in ("bias", "key_lengths", "query_lengths")),
        options.get("scale", 0.5), options.get("dropout_p", 0.0),
        None if seed is None else torch.tensor(seed), needs,
    )  # fmt: skip
    return dict(zip((n for i, n in enumerate(NEEDS) if needs >> i & 1), gradients, strict=True))


def on_cpu(inputs: Inputs) -> dict[str, Tensor]:
    assert "cpu" in takers(inputs)
    with force_backend("cpu"):
        return outputs_and_gradients(cross_attention, inputs)


def assert_accurate(inputs: Inputs) -> None:
    batch, heads, num_queries, _ = inputs.leaves["query"].shape
    upstream = [normal(batch, heads, num_queries, inputs.leaves["value"].shape[3], seed=1)]
    assert "cpu" in takers(inputs)
    with force_backend("cpu"):
        got = outputs_and_gradients(cross_attention, inputs, upstream)
    find_truth(inputs, upstream).check(got, "")


def one_case(layout: str = "dense", **changes: Any) -> Inputs:
    """B3-H2-T40x50-D20-V12, float32, with lengths, a learnt bias and dropout."""
    options = {
        "seed": 4, "batch": 3, "heads": 2, "num_queries": 40, "num_keys": 50, "head_dim": 20,
        "value_dim": 12, "dtype": torch.float32, "layouts": (layout,) * 3,
        "has_key_lengths": True, "has_query_lengths": True, "bias_axes": "BHQK", "dropout_p": 0.3,
    }  # fmt: skip
    return build(Case(**{**options, **changes}))


@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_row_sums_make_the_log_sum_exp(isa: str, spread: float) -> None:
    query, key = normal(2, 3, 21, 9, seed=0), normal(2, 3, 37, 9, seed=1)
    query, value = query * spread, normal(2, 3, 37, 4, seed=2)
    bias = normal(1, 3, 21, 37, seed=3)
    bias[:, 1, 5], bias[..., 7] = -INF, -INF
    key_lengths, query_lengths = torch.tensor([30, 0]), torch.tensor([20, 21])
    out, sums = forward(
        query, key, value, bias=bias, key_lengths=key_lengths, query_lengths=query_lengths
    )
    scores = 0.5 * query.double() @ key.double().mT + bias.double()
    want = scores[:1, ..., :30].logsumexp(-1)
    assert sums.shape == (2, 2, 3, 21) and sums.dtype == torch.float32
    lse = sums[0] * math.log(2) + sums[1].log()
    empty = torch.ones(2, 3, 21, dtype=torch.bool)
    empty[0, :, :20] = False
    empty[0, 1, 5] = True
    assert not sums[:, empty].any() and not out[empty].any()
    error = (lse[:1] - want)[~empty[:1]].abs().max()
    assert error <= 4 * EPS * scores[scores > -INF].abs().max()


@pytest.mark.parametrize("num_keys", [1, 5, 64, 150])
def test_the_dropout_mask_is_that_of_philox(isa: str, num_keys: int) -> None:
    """An identity as value gives the weights, one as upstream gradient gives them in backward."""
    rows = 40
    query, key = normal(2, 3, rows, 8, seed=0), normal(2, 3, num_keys, 8, seed=1)
    for seed, p in ((1, 0.5), (-(2**62) - 3, 0.01), (2**40 + 7, 0.9)):
        options: dict[str, Any] = {"dropout_p": p, "seed": seed}
        value = torch.eye(num_keys).expand(2, 3, -1, -1)
        weights, _ = forward(query, key, value, **options)
        keep = keep_mask(seed, (2, 3, rows, num_keys), p, "cpu")
        assert weights.ne(0).equal(keep)
        undropped, _ = forward(query, key, value)
        torch.testing.assert_close(weights, undropped * keep / (1 - p))
        identity = torch.eye(rows).expand(2, 3, -1, -1)
        gradients = backward(identity, query, key, normal(2, 3, num_keys, rows, seed=2), **options)
        assert gradients["value"].mT.ne(0).equal(keep)
        torch.testing.assert_close(gradients["value"].mT, weights)


@pytest.mark.parametrize("bias_axes", ["BHQK", "H1K", ""])
def test_same_bits_again_on_any_number_of_threads(isa: str, restore: None, bias_axes: str) -> None:
    inputs = one_case(bias_axes=bias_axes, batch=4, head_dim=33, value_dim=40)
    first = on_cpu(inputs)
    for i in range(20):
        torch.set_num_threads(1 + i % 2)
        for name, again in on_cpu(inputs).items():
            assert again.equal(first[name]), name


def test_levels_agree(extension: ModuleType, restore: None) -> None:
    results = []
    for level in extension.isa_levels():
        extension.set_isa(level)
        results.append(on_cpu(one_case()))
    for one, other in pairwise(results):
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=1e-5, atol=1e-5)


def test_only_the_wanted_gradients_come_back(isa: str) -> None:
    grad_out, query, key, value = (
        normal(2, 2, n, 7, seed=i) for i, n in enumerate((10, 10, 23, 23))
    )
    options: Any = {"key_lengths": torch.tensor([23, 9]), "bias": normal(2, 1, 10, 23, seed=0)}
    full = backward(grad_out, query, key, value, 0b1111, **options)
    for needs in range(15):
        some = backward(grad_out, query, key, value, needs, **options)
        assert len(some) == needs.bit_count()
        for name, gradient in some.items():
            assert gradient.equal(full[name]), (name, needs)


def test_gradient_of_the_scores(isa: str) -> None:
    """Which is that of a bias of full size, zero where no score is."""
    query, key, value = (normal(2, 2, 9, 5, seed=i) for i in range(3))
    key_lengths, query_lengths = torch.tensor([4, 9]), torch.tensor([9, 3])
    bias = normal(2, 2, 9, 9, seed=3).requires_grad_()
    grad_out = normal(2, 2, 9, 5, seed=4)
    lengths: Any = {"key_lengths": key_lengths, "query_lengths": query_lengths}
    exact = run_reference(query.double(), key.double(), value.double(),
                          bias=bias.double(), scale=0.5, **lengths)  # fmt: skip
    assert isinstance(exact, Tensor)
    (want,) = torch.autograd.grad(exact, bias, grad_out.double())
    gradients = backward(grad_out, query, key, value, 0b1000, bias=bias.detach(), **lengths)
    torch.testing.assert_close(gradients["scores"], want)
    assert not gradients["scores"][0, ..., 4:].any() and not gradients["scores"][1, :, 3:].any()


@pytest.mark.parametrize("expanded", ["ones", "rows", "columns"])
def test_upstream_gradients_with_repeated_memory(isa: str, expanded: str) -> None:
    inputs = one_case()
    shape = (3, 2, 40, 12)
    upstream = {
        "ones": torch.ones(()).expand(shape),
        "rows": normal(3, 2, 1, 12, seed=0).expand(shape),
        "columns": normal(3, 2, 40, 1, seed=0).expand(shape),
    }[expanded]
    with force_backend("cpu"):
        got = outputs_and_gradients(cross_attention, inputs, [upstream])
        want = outputs_and_gradients(cross_attention, inputs, [upstream.contiguous()])
    for name in want:
        assert got[name].equal(want[name]), name


@pytest.mark.parametrize("name", ["query", "key", "value"])
def test_nan_in_valid_inputs_is_not_hidden(isa: str, name: str) -> None:
    """It reaches just what it reaches by the definition."""
    inputs = one_case(dropout_p=0.0, bias_axes="")
    inputs.options.update(key_lengths=torch.tensor([50, 3, 0]), query_lengths=None)
    x = inputs.leaves[name].detach().clone()
    x[0, 0, 17, 3] = x[1, 0, 2, 1] = NAN
    inputs.leaves[name] = x.requires_grad_()
    with force_backend("reference"):
        want = outputs_and_gradients(cross_attention, inputs)
    got = on_cpu(inputs)
    for result, right in want.items():
        assert got[result].isnan().equal(right.isnan()), result


@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4, 5, 6), (2, 0, 3, 4, 5, 6), (2, 2, 0, 4, 5, 6), (2, 2, 3, 0, 5, 6),
              (2, 2, 3, 4, 5, 0)],
    ids=["B0", "H0", "Tq0", "Tk0", "Dv0"],
)  # fmt: skip
def test_empty_axes(isa: str, unwritten_is_nan: None, shape: tuple[int, ...]) -> None:
    b, h, tq, tk, d, dv = shape
    query, key, value = (
        normal(b, h, *rest, seed=0) for rest in ((tq, d), (tk, d), (tk, dv))
    )  # fmt: skip
    out, sums = forward(query, key, value)
    assert out.shape == (b, h, tq, dv) and not out.any()
    assert sums.shape == (2, b, h, tq) and (tk != 0 or not sums.any())
    gradients = backward(torch.ones_like(out), query, key, value, bias=torch.zeros(b, h, tq, tk))
    for name, like in {"query": query, "key": key, "value": value}.items():
        assert gradients[name].shape == like.shape and not gradients[name].any()
    assert gradients["scores"].shape == (b, h, tq, tk) and not gradients["scores"].any()


@pytest.mark.parametrize("value_dim", [1, 255, 256])
@pytest.mark.parametrize("head_dim", [1, 255, 256])
def test_narrow_and_wide_heads(isa: str, head_dim: int, value_dim: int) -> None:
    inputs = one_case("heads_split", head_dim=head_dim, value_dim=value_dim)
    assert_accurate(inputs)


def test_long_rows(isa: str) -> None:
    """Sums over 3000 keys, for which more than one block of keys is needed."""
    inputs = one_case(
        batch=1, heads=1, num_queries=3000, num_keys=3000, head_dim=3, value_dim=3, bias_axes="",
        has_key_lengths=False, has_query_lengths=False, dropout_p=0.0,
    )  # fmt: skip
    assert_accurate(inputs)


@pytest.mark.parametrize("offset", [-1e4, -1e9, -1e30, torch.finfo(torch.float32).min])
def test_large_offsets_of_whole_rows(isa: str, offset: float) -> None:
    """The usual finite stand-ins for -inf: such a row's weights still sum to 1, backward too."""
    query, key, value = (normal(2, 3, 50, 8, seed=k).requires_grad_() for k in range(3))
    bias = torch.zeros(50, 50)
    bias[:, 25:], bias[3] = offset, offset
    upstream = normal(2, 3, 50, 8, seed=3)
    results = {}
    for backend in ("cpu", "reference"):
        with force_backend(backend):
            out = cross_attention(query, key, value, bias=bias)
        gradients = torch.autograd.grad(out, (query, key, value), upstream)
        results[backend] = [out.detach(), *gradients]
    # What is left of a score beside the offset is rounding, and the same for both.
    for found, expected in zip(results["cpu"], results["reference"]):
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    assert results["cpu"][0][:, :, 3].abs().max() > 0
