"""torch.func and forward-mode derivatives run on the reference: the kernels have neither."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from fusionkit import ops
from fusionkit.ops.backends import BackendError, force_backend

X = torch.randn(2, 1, 4, 3, generator=torch.Generator().manual_seed(0))
OPERATORS: dict[str, Callable[[Tensor], Tensor]] = {
    "cross_attention": lambda x: ops.cross_attention(x, X.to(x), X.to(x)),
    "cross_attention_pairs": lambda x: ops.cross_attention_pairs(
        [ops.AttentionPair(x, X.to(x), X.to(x))]
    )[0],
    "gated_mask": lambda x: ops.gated_mask(x[:, 0], [X[:, 0].to(x)]),
    "dropout": lambda x: ops.dropout(x, 0.3, 5),
}
each_operator = pytest.mark.parametrize("name", OPERATORS)


@each_operator
def test_forward_mode(extension: ModuleType, name: str) -> None:
    operator, tangent = OPERATORS[name], torch.ones_like(X)
    found = torch.func.jvp(operator, (X,), (tangent,))[1]
    difference = (operator(X.double() + 1e-6) - operator(X.double() - 1e-6)) / 2e-6
    torch.testing.assert_close(found.double(), difference, atol=1e-4, rtol=1e-3)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(operator(forward_ad.make_dual(X, tangent)))
    torch.testing.assert_close(dual.tangent, found)


@each_operator
def test_func_grad(extension: ModuleType, name: str) -> None:
    operator, x = OPERATORS[name], X.clone().requires_grad_()
    found = torch.func.grad(lambda x: operator(x).square().sum())(X)
    (expected,) = torch.autograd.grad(operator(x).square().sum(), x)
    torch.testing.assert_close(found, expected)


def test_the_reason_is_said(extension: ModuleType) -> None:
    def forced(x: Tensor) -> Tensor:
        with force_backend("cpu"):
            return ops.gated_mask(x, [x])

    with pytest.raises(BackendError, match=r"a transform of torch\.func is active"):
        torch.func.grad(lambda x: forced(x).sum())(X[:, 0])
    with forward_ad.dual_level():
        text = ops.explain("gated_mask", X[:, 0], [X[:, 0]])
    assert "forward-mode differentiation is active" in text
