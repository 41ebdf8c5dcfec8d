"""The gated mask under torch.compile, torch.export and torch's own checks of custom operators."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.ops import gated_mask


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LENGTHS, SEED = torch.tensor([7, 0]), torch.tensor(5)
OPTIONS: dict[str, tuple[Any, ...]] = {
    "plain": (None, 0.0, None),
    "lengths": (LENGTHS, 0.0, None),
    "dropout": (None, 0.3, SEED),
    "both": (LENGTHS, 0.3, SEED),
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("layout", ["contiguous", "transposed"])
def test_operator_contract_of_forward(extension: ModuleType, name: str, layout: str) -> None:
    x = draw(2, 7, 9, seed=0) if layout == "contiguous" else draw(2, 9, 7, seed=0).mT
    gates = [draw(2, 7, 9, seed=1), draw(2, 7, 9, seed=2)]
    torch.library.opcheck(torch.ops.fusionkit.gated_mask.default, (x, gates, *OPTIONS[name]))


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("needs", [0b111, 0b001, 0b110])
def test_operator_contract_of_backward(extension: ModuleType, name: str, needs: int) -> None:
    grad_out, x, *gates = (draw(2, 7, 9, seed=i) for i in range(4))
    torch.library.opcheck(
        torch.ops.fusionkit.gated_mask_backward.default,
        (grad_out, x, gates, *OPTIONS[name], needs),
    )


def outputs_and_gradients(function: Any, inputs: list[Tensor], *options: Any) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    out = function(*leaves, *options)
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


def masked(x: Tensor, first: Tensor, second: Tensor, lengths: Tensor, seed: Tensor) -> Tensor:
    return gated_mask(x * 2, [first, second], lengths=lengths, dropout_p=0.25, seed=seed)


def test_compiled_in_one_graph() -> None:
    """Forward and backward, with lengths, and with a seed that changes without recompiling."""
    compiled = torch.compile(masked, fullgraph=True)
    inputs = [draw(3, 8, 37, seed=i) for i in range(3)]
    for lengths, seed in (([8, 0, 3], 1), ([1, 2, 8], 2)):
        options = torch.tensor(lengths), torch.tensor(seed)
        with torch._dynamo.config.patch(error_on_recompile=seed != 1):
            found = outputs_and_gradients(compiled, inputs, *options)
        for a, b in zip(found, outputs_and_gradients(masked, inputs, *options)):
            torch.testing.assert_close(a, b)


def test_compiled_reference_in_one_graph() -> None:
    """float64, so that the reference with its Philox mask gets compiled."""
    compiled = torch.compile(masked, fullgraph=True)
    inputs = [draw(2, 5, 6, seed=i).double() for i in range(3)]
    options = torch.tensor([5, 2]), torch.tensor(2**40 + 1)
    found = outputs_and_gradients(compiled, inputs, *options)
    for a, b in zip(found, outputs_and_gradients(masked, inputs, *options)):
        torch.testing.assert_close(a, b)


class Module(nn.Module):
    def forward(self, x: Tensor, gate: Tensor, lengths: Tensor) -> Tensor:
        return gated_mask(x, [gate, x], lengths=lengths)


@pytest.mark.parametrize("strict", [False, True], ids=["nonstrict", "strict"])
def test_export_with_dynamic_batch(strict: bool) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (draw(3, 7, 5, seed=0), draw(3, 7, 5, seed=1), torch.tensor([7, 0, 3]))
    shapes = {"x": {0: batch}, "gate": {0: batch}, "lengths": {0: batch}}
    program = torch.export.export(Module(), example, dynamic_shapes=shapes, strict=strict)
    other = (draw(5, 7, 5, seed=2), draw(5, 7, 5, seed=3), torch.tensor([1, 2, 3, 4, 7]))
    assert program.module()(*other).equal(Module()(*other))
