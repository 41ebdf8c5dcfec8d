"""`dropout`: the compiled kernel against the reference, and the layer on top."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.nn import Dropout
from fusionkit.ops import dropout, force_backend
from fusionkit.ops.philox import keep_mask

SHAPES = [
    (1,),
    (7,),
    (3, 5),
    (2, 3, 4),
    (13, 200),
    (2, 3, 4, 33),
    (9, 16),
    (5, 4099),
    (0, 3),
    (3, 0),
]


def on(backend: str, x: Tensor, p: float, seed: int | Tensor) -> list[Tensor]:
    """Result and gradient."""
    leaf = x.detach().requires_grad_()
    with force_backend(backend):
        out = dropout(leaf, p, seed)
    upstream = torch.linspace(-1.0, 1.0, out.numel()).view(out.shape)
    return [out.detach(), *torch.autograd.grad(out, leaf, upstream)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("p", [0.01, 0.5, 0.9])
def test_kernel_equals_the_reference(
    isa: str, unwritten_is_nan: None, shape: tuple[int, ...], p: float
) -> None:
    for seed in (0, -3, 2**62 + 1):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        for found, right in zip(on("cpu", x, p, seed), on("reference", x, p, seed)):
            torch.testing.assert_close(found, right, rtol=1e-6, atol=0.0)


def test_strides_do_not_matter(isa: str) -> None:
    x = torch.randn(20, 6, 9)
    for view in (x.transpose(0, 2), x[::2], x[..., ::2], x[:1].expand(4, 6, 9)):
        dense = view.contiguous()
        for found, right in zip(on("cpu", view, 0.4, 5), on("cpu", dense, 0.4, 5)):
            assert found.equal(right)


def test_the_mask_is_that_of_the_seed(isa: str) -> None:
    with force_backend("cpu"):
        kept = dropout(torch.ones(4, 5, 37), 0.3, 11) != 0
    assert kept.equal(keep_mask(11, (1, 1, 20, 37), 0.3, "cpu").view(4, 5, 37))


def test_same_bits_on_any_number_of_threads(isa: str, restore: None) -> None:
    x = torch.randn(403, 301)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(on("cpu", x, 0.2, 4))
    for other in results[1:]:
        assert all(a.equal(b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_share_and_mean(extension: ModuleType, backend: str) -> None:
    with force_backend(backend):
        out = dropout(torch.ones(500, 400), 0.25, 9)
    assert 0.745 < (out != 0).float().mean().item() < 0.755
    assert 0.99 < out.mean().item() < 1.01


def test_a_dropped_nan_is_gone(isa: str) -> None:
    x = torch.full((8, 40), torch.nan)
    for backend in ("cpu", "reference"):
        with force_backend(backend):
            out = dropout(x, 0.5, 2)
        assert out.isnan().equal(keep_mask(2, (1, 1, 8, 40), 0.5, "cpu")[0, 0])


def test_gradients_of_gradients(extension: ModuleType) -> None:
    x = torch.randn(3, 8, requires_grad=True)
    (first,) = torch.autograd.grad(dropout(x, 0.5, 1).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    keep = keep_mask(1, (1, 1, 3, 8), 0.5, "cpu")[0, 0]
    assert second.equal(8.0 * keep)


def test_gradcheck() -> None:
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: dropout(x, 0.4, 3), x)


def test_operator_contract(extension: ModuleType) -> None:
    for x in (torch.randn(3, 9), torch.randn(9, 3).mT, torch.randn(2, 0)):
        torch.library.opcheck(torch.ops.fusionkit.dropout.default, (x, 0.3, torch.tensor(7)))


def test_compiled_in_one_graph(extension: ModuleType) -> None:
    def twice(x: Tensor, seed: Tensor) -> Tensor:
        return dropout(x * 2, 0.3, seed)

    compiled = torch.compile(twice, fullgraph=True, backend="aot_eager")
    x, seed = torch.randn(4, 21, requires_grad=True), torch.tensor(6)
    for function in (compiled, twice):
        out = function(x, seed)
        (grad,) = torch.autograd.grad(out.sum(), x)
        keep = keep_mask(6, (1, 1, 4, 21), 0.3, "cpu")[0, 0]
        torch.testing.assert_close(grad, keep * (2.0 / 0.7))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.tensor(1.0), 0.1, 1), DataError, r"x must be floating point \(..., C\)"),
        ((torch.zeros(3, dtype=torch.int64), 0.1, 1), DataError, "x must be floating point"),
        ((torch.zeros(3), 1.0, 1), ConfigError, r"dropout_p must be in \[0, 1\)"),
        ((torch.zeros(3), 0.1, None), ConfigError, "seed is required"),
    ],
)
def test_bad_arguments(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        dropout(*arguments)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(3, dtype=torch.float64)}, "x must be float32"),
        ({"x": torch.tensor(1.0)}, "x must have at least one axis"),
        ({"p": 1.0}, r"p must be in \[0, 1\)"),
        ({"seed": torch.tensor([1, 2])}, "seed must be one int64"),
        ({"seed": torch.tensor(1.0)}, "seed must be one int64"),
    ],
)
def test_raw_operator_checks_its_inputs(
    extension: ModuleType, change: dict[str, Any], message: str
) -> None:
    arguments = {"x": torch.zeros(3, 4), "p": 0.5, "seed": torch.tensor(1), **change}
    with pytest.raises(RuntimeError, match=message):
        torch.ops.fusionkit.dropout(**arguments)


def test_layer(extension: ModuleType) -> None:
    x = torch.ones(50, 40)
    layer = Dropout(0.5)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    assert not first.equal(second)
    torch.manual_seed(0)
    assert layer(x).equal(first)
    assert layer.eval()(x) is x
    assert Dropout(0.0)(x) is x and Dropout(1.0)(x).eq(0).all()
    assert set(Dropout(0.5)(x.double()).unique().tolist()) == {0.0, 2.0}
