"""What `info_nce` means: closed formulas in float64, gradients, dtypes, bad input, tracing."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops import available_backends, explain, info_nce


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("scale", [1.0, 0.25, -3.0])
@pytest.mark.parametrize("shape", [(1, 3), (7, 1), (6, 5)], ids=str)
def test_formula(shape: tuple[int, int], scale: float) -> None:
    queries, keys = draw(*shape), draw(*shape, seed=1)
    found = info_nce(queries, keys, scale=scale)
    assert found.shape == shape[:1]
    for i, query in enumerate(queries):
        scores = [math.exp(scale * math.fsum((query * key).tolist())) for key in keys]
        assert math.isclose(found[i].item(), math.log(math.fsum(scores) / scores[i]), abs_tol=1e-12)
    own = torch.arange(shape[0])
    cross_entropy = F.cross_entropy(scale * queries @ keys.T, own, reduction="none")
    torch.testing.assert_close(found, cross_entropy)


def test_equal_scores_and_one_pair() -> None:
    found = info_nce(torch.zeros(5, 3), draw(5, 3, dtype=torch.float32))
    torch.testing.assert_close(found, torch.full((5,), math.log(5)))
    assert info_nce(draw(1, 3), draw(1, 3, seed=1)).tolist() == [0.0]


def test_large_scores() -> None:
    """exp(4e4) is no float64; the first query's own key is the best one, the other's is not."""
    vectors = 200.0 * torch.eye(2, dtype=torch.float64)
    assert info_nce(vectors, vectors).tolist() == [0.0, 0.0]
    assert info_nce(vectors, vectors.flip(0)).tolist() == [4e4, 4e4]


def test_gradient_checks() -> None:
    queries, keys = draw(4, 3).requires_grad_(), draw(4, 3, seed=1).requires_grad_()

    def call(queries: Tensor, keys: Tensor) -> Tensor:
        return info_nce(queries, keys, scale=0.7)

    assert torch.autograd.gradcheck(call, (queries, keys))
    assert torch.autograd.gradgradcheck(call, (queries, keys))


def test_gradient_formula() -> None:
    """Of the mean loss: the softmax less one on the diagonal, times the other side's vectors."""
    queries, keys = draw(5, 3).requires_grad_(), draw(5, 3, seed=1).requires_grad_()
    found = torch.autograd.grad(info_nce(queries, keys, scale=2.0).mean(), [queries, keys])
    slope = ((2.0 * queries @ keys.T).softmax(dim=1) - torch.eye(5)) * 2.0 / 5
    torch.testing.assert_close(found, (slope @ keys, slope.T @ queries))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(dtype: torch.dtype) -> None:
    queries, keys = draw(9, 40).to(dtype), draw(9, 40, seed=1).to(dtype)
    found = info_nce(queries, keys)
    assert found.dtype == dtype
    exact = info_nce(queries.double(), keys.double()).to(dtype)
    torch.testing.assert_close(found, exact, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_autocast_computes_in_float32() -> None:
    queries, keys = draw(9, 40, dtype=torch.float32), draw(9, 40, seed=1).bfloat16()
    want = info_nce(queries, keys.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = info_nce(queries, keys)
    assert found.dtype == torch.float32 and found.equal(want)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_empty(shape: tuple[int, int]) -> None:
    queries, keys = (torch.ones(shape, requires_grad=True) for _ in range(2))
    found = info_nce(queries, keys)
    torch.testing.assert_close(found, torch.full(shape[:1], math.log(max(shape[0], 1))))
    assert [g.shape for g in torch.autograd.grad(found.sum(), [queries, keys])] == [shape] * 2


def symmetric(queries: Tensor, keys: Tensor) -> Tensor:
    return info_nce(queries, keys, scale=0.5).mean() + info_nce(keys, queries, scale=0.5).mean()


def test_compiled_in_one_graph() -> None:
    compiled = torch.compile(symmetric, backend="aot_eager", fullgraph=True)
    found = []
    for function in (symmetric, compiled):
        leaves = [draw(6, 4, seed=i).requires_grad_() for i in range(2)]
        loss = function(*leaves)
        found.append((loss, *torch.autograd.grad(loss, leaves)))
    torch.testing.assert_close(*found)


def test_export_with_dynamic_batch() -> None:
    class Module(torch.nn.Module):
        def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
            return symmetric(queries, keys)

    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        Module(), (draw(6, 4), draw(6, 4, seed=1)), dynamic_shapes=({0: batch}, {0: batch})
    )
    other = draw(9, 4), draw(9, 4, seed=1)
    torch.testing.assert_close(program.module()(*other), symmetric(*other))


X = torch.zeros(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: info_nce(X[0], X[0]), DataError, r"both be \(N, D\), got \(4,\) and \(4,\)"),
        (lambda: info_nce(X, X[:2]), DataError, r"\(3, 4\) and \(2, 4\)"),
        (lambda: info_nce(X, X[:, :2]), DataError, r"\(3, 4\) and \(3, 2\)"),
        (lambda: info_nce(X.long(), X.long()), DataError, "queries must be floating point, got"),
        (lambda: info_nce(X, X.double()), DataError, "keys are torch.float64 and queries torch"),
        (lambda: info_nce(X, X.to("meta")), DataError, "keys are on meta and queries on cpu"),
        (lambda: info_nce(X, X, scale=math.nan), ConfigError, "scale must be finite, got nan"),
    ],
)
def test_errors_name_the_argument(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]


def test_autocast_refuses_integers() -> None:
    with torch.autocast("cpu"), pytest.raises(DataError, match="keys must be floating point"):
        info_nce(X, X.long())


def test_explain_names_the_backends() -> None:
    names = [backend.name for backend in available_backends()["info_nce"]]
    assert names == ["triton", "reference"]
    lines = explain("info_nce", X.double(), X.double()).splitlines()
    assert lines[0] == "info_nce" and "chosen" in lines[-1]
    assert [line.split()[0] for line in lines[1:]] == names
