"""Gradient reversal: identity forward, scaled and turned backward, traceable."""

from __future__ import annotations

import pytest
import torch

from fusionkit.nn.gradient_reversal import gradient_reversal


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_value_and_gradient(scale: float) -> None:
    x = torch.randn(3, 5, requires_grad=True)
    weight = torch.randn(3, 5)
    y = gradient_reversal(x, scale)
    assert torch.equal(y, x)
    (y * weight).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, weight * -scale)


def test_twice_is_a_plain_identity() -> None:
    x = torch.randn(4, requires_grad=True)
    gradient_reversal(gradient_reversal(x)).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.ones(4))


def test_it_compiles_into_one_graph() -> None:
    x = torch.randn(4, requires_grad=True)

    @torch.compile(fullgraph=True, backend="eager")
    def run(x: torch.Tensor) -> torch.Tensor:
        return gradient_reversal(x, 2.0) * 3

    run(x).sum().backward()
    assert x.grad is not None and torch.equal(x.grad, torch.full((4,), -6.0))
