"""The outer product with ones, and the sub-networks that make vectors of sequences."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fusionkit.nn.tensor_fusion import (
    BatchOfOneNorm,
    MeanSubNetwork,
    RecurrentSubNetwork,
    SequenceSubNetwork,
    tensor_fusion,
    tensor_fusion_size,
)


def test_the_last_vector_runs_fastest_and_ones_come_first() -> None:
    one, two = torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0]])
    assert tensor_fusion([one, two]).tolist() == [[1, 5, 2, 10, 3, 15]]
    assert tensor_fusion([two]).tolist() == [[1, 5]]


@pytest.mark.parametrize("sizes", [(2, 3), (4, 1, 2), (2, 3, 1, 4)], ids=str)
def test_every_product_of_entries_is_there_once(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    vectors = [torch.randn(3, size, dtype=torch.float64) for size in sizes]
    with_ones = [torch.cat([v.new_ones(3, 1), v], dim=1) for v in vectors]
    letters = "abcdefg"[: len(sizes)]
    equation = ",".join("z" + letter for letter in letters) + "->z" + letters
    want = torch.einsum(equation, *with_ones).flatten(1)
    got = tensor_fusion(vectors)
    assert got.shape[1] == tensor_fusion_size(sizes)
    assert torch.allclose(got, want, atol=1e-14, rtol=0)


def test_a_training_batch_of_one_uses_and_keeps_the_running_statistics() -> None:
    torch.manual_seed(0)
    ours, stock = BatchOfOneNorm(3), nn.BatchNorm1d(3)
    many, one = torch.randn(5, 3), torch.randn(1, 3)
    assert torch.equal(ours(many), stock(many))
    before = {name: value.clone() for name, value in ours.named_buffers()}
    assert torch.equal(ours(one), stock.eval()(one))
    assert all(torch.equal(before[name], value) for name, value in ours.named_buffers())


SUBNETWORKS: dict[str, Callable[[], nn.Module]] = {
    "mean": lambda: MeanSubNetwork(4, 3),
    "recurrent": lambda: RecurrentSubNetwork(4, 5, 3),
    "sequence": lambda: SequenceSubNetwork(4, 5, 3),
}


@pytest.mark.parametrize("kind", SUBNETWORKS)
def test_only_the_valid_steps_count(kind: str) -> None:
    torch.manual_seed(0)
    module = SUBNETWORKS[kind]().eval()
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.ones_(parameter)  # no ReLU is closed for all inputs
    x, lengths = torch.randn(4, 6, 4), torch.tensor([6, 2, 1, 0])
    vectors: Tensor = module(x, lengths)
    assert vectors.shape == (4, 3) and vectors.isfinite().all()
    for row, length in enumerate(lengths.tolist()):
        if length:
            alone = module(x[row : row + 1, :length], lengths[row : row + 1])
            assert torch.allclose(alone[0], vectors[row], atol=1e-6), row
    changed = x.clone()
    changed[1, 1] += 1
    assert not torch.allclose(module(changed, lengths)[1], vectors[1])


def test_the_mean_divides_by_the_length() -> None:
    torch.manual_seed(0)
    module = MeanSubNetwork(2, 2).eval()
    for parameter in module.parameters():
        torch.nn.init.uniform_(parameter, 0.1, 1.0)  # every ReLU is open
    x = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [99.0, 99.0]]])
    mean = torch.tensor([[[2.0, 3.0]]])
    got = module(x, torch.tensor([2]))
    assert torch.allclose(got, module(mean, torch.tensor([1])))
    assert not torch.allclose(got, module(x, torch.tensor([3])))
