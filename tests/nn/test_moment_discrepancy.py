"""Central moment discrepancy: values, the gradient where moments are equal, precision, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from fusionkit.nn.moment_discrepancy import central_moment_discrepancy


def test_the_definition_written_out() -> None:
    torch.manual_seed(0)
    first, second = torch.rand(7, 3).double(), torch.rand(4, 3).double()
    expected = math.dist(first.mean(0).tolist(), second.mean(0).tolist()) / 2
    for k in range(2, 5):
        moments = [
            [sum((v - sum(column) / len(column)) ** k for v in column) / len(column)
             for column in zip(*x.tolist())]
            for x in (first, second)
        ]  # fmt: skip
        expected += math.dist(*moments) / 2**k
    found = central_moment_discrepancy(first, second, moments=4, width=2.0)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_equal_sets_have_no_discrepancy_and_a_zero_gradient() -> None:
    first = torch.rand(5, 4, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    found = central_moment_discrepancy(first, second)
    found.backward()
    assert found.item() == 0.0
    assert first.grad is not None and not first.grad.any()
    assert second.grad is not None and not second.grad.any()


def test_one_sample_each_differs_in_the_mean_alone() -> None:
    first = torch.tensor([[0.1, 0.9]], requires_grad=True)
    found = central_moment_discrepancy(first, torch.tensor([[0.4, 0.5]]))
    found.backward()
    assert found.item() == pytest.approx(0.5)
    assert torch.allclose(first.grad, torch.tensor([[-0.6, 0.8]]))  # type: ignore[arg-type]


def test_the_released_gradient_is_nan_where_moments_are_equal() -> None:
    first = torch.rand(5, 4, requires_grad=True)
    found = central_moment_discrepancy(first, first.detach().clone(), nan_at_equality=True)
    found.backward()
    assert found.item() == 0.0
    assert first.grad is not None and first.grad.isnan().all()


def test_half_precision_is_computed_in_single() -> None:
    torch.manual_seed(0)
    first, second = torch.rand(6, 3).bfloat16(), torch.rand(6, 3).bfloat16()
    found = central_moment_discrepancy(first, second)
    assert found.dtype == torch.float32
    assert found == central_moment_discrepancy(first.float(), second.float())


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((3, 2), (3, 4)), {}, "of one D"),
        (((3,), (3,)), {}, "of one D"),
        (((0, 2), (3, 2)), {}, "at least one sample"),
        (((3, 2), (3, 2)), {"moments": 0}, "moments 0"),
        (((3, 2), (3, 2)), {"width": 0.0}, "width 0.0"),
    ],
)
def test_wrong_arguments(shapes: Any, options: dict[str, Any], message: str) -> None:
    first, second = (torch.rand(*shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        central_moment_discrepancy(first, second, **options)
