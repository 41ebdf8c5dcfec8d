"""The compiled cross-attention in autograd, torch.compile, torch.export and torch's own checks."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fusionkit.ops import cross_attention, force_backend

from attention_cases import LAYOUTS, lay_out

LENGTHS = {"key_lengths": torch.tensor([5, 0]), "query_lengths": torch.tensor([7, 2])}
DROPOUT = {"dropout_p": 0.3, "seed": torch.tensor(5)}


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def bias(*shape: int) -> Tensor:
    return draw(*shape, seed=9).masked_fill(draw(*shape, seed=8) > 1, -torch.inf)


def positional(options: dict[str, Any]) -> tuple[Any, ...]:
    """The raw operators' arguments behind the tensors."""
    return (
        options.get("bias"), options.get("key_lengths"), options.get("query_lengths"), 0.4,
        options.get("dropout_p", 0.0), options.get("seed"),
    )  # fmt: skip


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "lengths": LENGTHS,
    "dropout": DROPOUT,
    "bias": {"bias": bias(2, 1, 7, 9)},
    "all": {**LENGTHS, **DROPOUT, "bias": bias(1, 2, 1, 9)},
}


NAMES_AND_LAYOUTS = [(name, "dense") for name in OPTIONS] + [("all", name) for name in LAYOUTS[1:]]


def laid_out(layout: str, *shapes: tuple[int, int]) -> list[Tensor]:
    return [lay_out(draw(2, 2, *shape, seed=i), layout) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(("name", "layout"), NAMES_AND_LAYOUTS)
def test_operator_contract_of_forward(extension: ModuleType, name: str, layout: str) -> None:
    inputs = laid_out(layout, (7, 5), (9, 5), (9, 6))
    torch.library.opcheck(
        torch.ops.fusionkit.cross_attention.default, (*inputs, *positional(OPTIONS[name]))
    )


@pytest.mark.parametrize(("name", "layout"), NAMES_AND_LAYOUTS)
def test_operator_contract_of_backward(extension: ModuleType, name: str, layout: str) -> None:
    inputs = laid_out(layout, (7, 5), (9, 5), (9, 6), (7, 6))
    options = positional(OPTIONS[name])
    out, lse = torch.ops.fusionkit.cross_attention.default(*inputs[:3], *options)
    needs = {"plain": 0b0111, "lengths": 0b0010, "dropout": 0b0101, "bias": 0b1000, "all": 0b1111}
    torch.library.opcheck(
        torch.ops.fusionkit.cross_attention_backward.default,
        (inputs[3], *inputs[:3], out, lse, *options, needs[name]),
    )


def outputs_and_gradients(function: Any, inputs: list[Tensor], *options: Any) -> list[Tensor]:
    leaves = [t.detach().clone().requires_grad_() for t in inputs]
    out = function(*leaves, *options)
    return [out, *torch.autograd.grad(out.square().sum(), leaves)]


def attend(
    query: Tensor, key: Tensor, added: Tensor, key_lengths: Tensor, lengths: Tensor, seed: Tensor
) -> Tensor:
    return cross_attention(
        query * 2, key, key.sin(), key_lengths=key_lengths, query_lengths=lengths, bias=added,
        dropout_p=0.25, seed=seed,
    )  # fmt: skip


def test_compiled_in_one_graph(extension: ModuleType) -> None:
    """Forward and backward; lengths and seed change without recompiling."""
    compiled = torch.compile(attend, fullgraph=True)
    inputs = [draw(3, 2, 8, 5, seed=0), draw(3, 2, 11, 5, seed=1), draw(2, 1, 11, seed=2)]
    with force_backend("cpu"):
        for keys, rows, seed in (([11, 0, 3], [8, 8, 1], 1), ([1, 2, 11], [0, 5, 8], 2)):
            options = torch.tensor(keys), torch.tensor(rows), torch.tensor(seed)
            with torch._dynamo.config.patch(error_on_recompile=seed != 1):
                found = outputs_and_gradients(compiled, inputs, *options)
            for a, b in zip(found, outputs_and_gradients(attend, inputs, *options)):
                torch.testing.assert_close(a, b)


def test_compiled_where_one_tensor_stands_for_all(extension: ModuleType) -> None:
    def itself(x: Tensor, lengths: Tensor) -> Tensor:
        return cross_attention(x, x, x, key_lengths=lengths, query_lengths=lengths)

    compiled = torch.compile(itself, fullgraph=True, backend="aot_eager")
    inputs, lengths = [draw(2, 2, 8, 5, seed=0)], torch.tensor([8, 3])
    with force_backend("cpu"):
        found = outputs_and_gradients(compiled, inputs, lengths)
        for a, b in zip(found, outputs_and_gradients(itself, inputs, lengths)):
            torch.testing.assert_close(a, b)


def test_compiled_for_any_size(extension: ModuleType) -> None:
    """Batch and steps change without recompiling."""
    torch.compiler.reset()
    compiled = torch.compile(attend, fullgraph=True, dynamic=True)
    with force_backend("cpu"):
        for i, (b, tq, tk) in enumerate(((3, 8, 11), (5, 20, 7))):
            inputs = [draw(b, 2, tq, 5, seed=0), draw(b, 2, tk, 5, seed=1), draw(2, 1, tk, seed=2)]
            options = torch.arange(b) % (tk + 1), torch.arange(b) + 2, torch.tensor(3)
            with torch._dynamo.config.patch(error_on_recompile=i > 0):
                found = outputs_and_gradients(compiled, inputs, *options)
            for a, b_ in zip(found, outputs_and_gradients(attend, inputs, *options)):
                torch.testing.assert_close(a, b_)


def test_compiled_with_one_tensor_as_key_and_value(extension: ModuleType) -> None:
    def itself(x: Tensor, y: Tensor) -> Tensor:
        return cross_attention(x, y, y)

    compiled = torch.compile(itself, fullgraph=True, backend="aot_eager")
    inputs = [draw(2, 2, 7, 5, seed=0), draw(2, 2, 9, 5, seed=1)]
    with force_backend("cpu"):
        found, wanted = (outputs_and_gradients(f, inputs) for f in (compiled, itself))
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b)


class Module(nn.Module):
    def forward(self, query: Tensor, key: Tensor, lengths: Tensor) -> Tensor:
        return cross_attention(query, key, key, key_lengths=lengths)


@pytest.mark.parametrize("strict", [False, True], ids=["nonstrict", "strict"])
def test_export_with_dynamic_batch(extension: ModuleType, strict: bool) -> None:
    batch = torch.export.Dim("batch", min=1, max=64)
    example = (draw(3, 2, 7, 5, seed=0), draw(3, 2, 9, 5, seed=1), torch.tensor([7, 0, 3]))
    shapes = {"query": {0: batch}, "key": {0: batch}, "lengths": {0: batch}}
    with force_backend("cpu"):
        program = torch.export.export(Module(), example, dynamic_shapes=shapes, strict=strict)
        other = (draw(5, 2, 7, 5, seed=2), draw(5, 2, 9, 5, seed=3), torch.tensor([1, 2, 3, 4, 9]))
        assert program.module()(*other).equal(Module()(*other))
    assert any("fusionkit.cross_attention" in str(n.target) for n in program.graph.nodes)


def test_autocast_rounds_inputs_and_result_only(extension: ModuleType) -> None:
    inputs = [draw(2, 2, 30, 16, seed=i) for i in range(3)]
    with force_backend("cpu"):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = outputs_and_gradients(cross_attention, inputs)
        rounded = [x.bfloat16().float() for x in inputs]
        want = cross_attention(*rounded)
    assert got[0].dtype == torch.bfloat16 and got[0].equal(want.bfloat16())
    assert all(x.dtype == torch.float32 and x.isfinite().all() for x in got[1:])


def test_second_derivatives_are_those_of_the_reference(extension: ModuleType) -> None:
    inputs = [draw(2, 2, n, 5, seed=i) for i, n in enumerate((4, 6, 6))] + [draw(2, 1, 6, seed=3)]
    options: dict[str, Any] = {
        "key_lengths": torch.tensor([6, 2]), "dropout_p": 0.2, "seed": 3, "scale": 0.5,
    }  # fmt: skip
    found = []
    for name in ("cpu", "reference"):
        leaves = [x.clone().requires_grad_() for x in inputs]
        with force_backend(name):
            out = cross_attention(*leaves[:3], bias=leaves[3], **options)
            gradients = torch.autograd.grad(out.square().sum(), leaves, create_graph=True)
            second = torch.autograd.grad([g.square().sum() for g in gradients], leaves)
        found.append([*gradients, *second])
    for ours, theirs in zip(*found):
        assert ours.ne(0).any()
        torch.testing.assert_close(ours, theirs)


def test_one_tensor_given_as_query_key_and_value(extension: ModuleType) -> None:
    """Whose gradient is the sum of all three, once and twice differentiated."""
    x = draw(2, 2, 9, 5, seed=0)
    found = []
    for name in ("cpu", "reference"):
        leaf = x.clone().requires_grad_()
        with force_backend(name):
            out = cross_attention(leaf, leaf, leaf, key_lengths=torch.tensor([9, 4]))
        (first,) = torch.autograd.grad(out.square().sum(), leaf, create_graph=True)
        found.append((first, *torch.autograd.grad(first.square().sum(), leaf)))
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())


def test_inputs_that_change_before_backward_are_noticed(extension: ModuleType) -> None:
    leaves = [draw(1, 1, 3, 2, seed=i).requires_grad_() for i in range(3)]
    query = leaves[0] * 1
    with force_backend("cpu"):
        out = cross_attention(query, *leaves[1:])
    with torch.no_grad():
        query.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def test_no_graph_where_no_gradient_is_wanted(extension: ModuleType) -> None:
    inputs = [draw(1, 1, 3, 2, seed=i).requires_grad_() for i in range(3)]
    with force_backend("cpu"):
        want = cross_attention(*inputs)
        with torch.no_grad():
            got = cross_attention(*inputs)
        with torch.inference_mode():
            again = cross_attention(*inputs)
    assert want.grad_fn is not None and got.grad_fn is None
    assert got.equal(want) and again.equal(want)
