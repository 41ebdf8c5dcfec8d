"""Low-rank fusion equals a linear layer on the whole tensor, for any number of vectors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fusionkit.nn.low_rank_fusion import LowRankFusion
from fusionkit.nn.tensor_fusion import tensor_fusion


def full_weight(fusion: LowRankFusion) -> Tensor:
    """(product of all (H_m + 1), output size): what the factors stand for."""
    weight: Tensor = fusion.weights[0][:, None, None] * fusion.factors[0]
    for factor in list(fusion.factors)[1:]:
        weight = torch.einsum("rio,rjo->rijo", weight, factor).flatten(1, 2)
    return weight.sum(dim=0)


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("sizes", [(3,), (2, 3), (4, 1, 2), (2, 3, 1, 4)], ids=str)
def test_a_linear_layer_on_the_tensor(sizes: tuple[int, ...], rank: int) -> None:
    torch.manual_seed(0)
    fusion = LowRankFusion(sizes, rank, 3).double()
    torch.nn.init.normal_(fusion.bias)
    vectors = [torch.randn(5, size, dtype=torch.float64) for size in sizes]
    want = tensor_fusion(vectors) @ full_weight(fusion) + fusion.bias
    assert torch.allclose(fusion(vectors), want, atol=1e-12, rtol=0)


def test_start_is_xavier_normal_on_the_raw_shapes() -> None:
    torch.manual_seed(0)
    fusion = LowRankFusion([39, 9], 50, 10)
    # Fan-in is the second axis times the third, fan-out the first times the third.
    for factor, inputs in zip(fusion.factors, (40, 10)):
        expected = (2 / (inputs * 10 + 50 * 10)) ** 0.5
        assert factor.std().item() == pytest.approx(expected, rel=0.05)
    assert fusion.weights.shape == (1, 50)
    assert not fusion.bias.any()


def test_one_vector_too_few_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        LowRankFusion([2, 3], 2, 1)([torch.zeros(1, 2)])
