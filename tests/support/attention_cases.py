"""Random calls of `cross_attention`, what they should give, and how to compare."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops import cross_attention
from fusionkit.ops.backends import available_backends
from fusionkit.ops.philox import keep_mask

BACKENDS = [b.name for b in available_backends()["cross_attention"] if not b.unavailable]
NAN, INF = math.nan, math.inf


@dataclass(frozen=True)
class Case:
    """Shapes and options of one call, drawn from ``seed``."""

    seed: int
    batch: int
    heads: int
    num_queries: int
    num_keys: int
    head_dim: int
    value_dim: int
    dtype: torch.dtype
    layout: str
    has_key_lengths: bool
    has_query_lengths: bool
    bias_axes: str
    dropout_p: float
    return_weights: bool

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return (
            f"B{self.batch}-H{self.heads}-T{self.num_queries}x{self.num_keys}-D{self.head_dim}"
            f"-V{self.value_dim}-{dtype}-{self.layout}-{self.bias_axes or 'nobias'}"
            f"{'-klen' * self.has_key_lengths}{'-qlen' * self.has_query_lengths}"
            f"{'-drop' * (self.dropout_p > 0)}{'-weights' * self.return_weights}-s{self.seed}"
        )


def draw(seed: int) -> Case:
    g = torch.Generator().manual_seed(seed)

    def pick(*options: Any) -> Any:
        return options[int(torch.randint(len(options), (), generator=g))]

    head_dim = pick(1, 2, 4, 5, 8, 10, 16)
    return Case(
        seed=seed,
        batch=pick(1, 2, 3, 5),
        heads=pick(1, 2, 4),
        num_queries=pick(1, 2, 3, 7, 16, 21, 50),
        num_keys=pick(1, 2, 5, 8, 17, 33, 50),
        head_dim=head_dim,
        value_dim=pick(head_dim, head_dim, 1, 3, 12),
        dtype=pick(torch.float32, torch.float32, torch.float64, torch.bfloat16),
        layout=pick("dense", "time_first", "every_second", "reversed_axes", "broadcast"),
        has_key_lengths=pick(True, True, False),
        has_query_lengths=pick(True, True, False),
        bias_axes=pick("", "", "BHQK", "QK", "K", "B11K", "H1K", "1Q1"),
        dropout_p=pick(0.0, 0.0, 0.3, 0.75),
        return_weights=pick(False, False, True),
    )


@dataclass
class Inputs:
    """Leaf tensors by name, and the other arguments of the call."""

    leaves: dict[str, Tensor]
    options: dict[str, Any]

    def cast(self, dtype: torch.dtype) -> Inputs:
        leaves = {n: x.detach().to(dtype).requires_grad_() for n, x in self.leaves.items()}
        return Inputs(leaves, self.options)


def lay_out(x: Tensor, layout: str) -> Tensor:
    """The same values with other strides."""
    if layout == "time_first":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "every_second":
        wide = x.new_full((*x.shape[:-1], 2 * x.shape[-1]), NAN)
        wide[..., ::2] = x
        return wide[..., ::2]
    if layout == "reversed_axes":
        return x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    if layout == "broadcast":
        return x[:, :1].expand(x.shape)
    return x


def build(case: Case) -> Inputs:
    g = torch.Generator().manual_seed(case.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    def lengths(steps: int) -> Tensor:
        return torch.randint(steps + 1, (case.batch,), generator=g)

    sizes = {"B": case.batch, "H": case.heads, "Q": case.num_queries, "K": case.num_keys, "1": 1}
    leaves = {
        "query": normal(case.batch, case.heads, case.num_queries, case.head_dim),
        "key": normal(case.batch, case.heads, case.num_keys, case.head_dim),
        "value": normal(case.batch, case.heads, case.num_keys, case.value_dim),
    }
    leaves = {name: lay_out(x.to(case.dtype), case.layout) for name, x in leaves.items()}
    if case.bias_axes:
        bias = normal(*(sizes[axis] for axis in case.bias_axes))
        leaves["bias"] = bias.masked_fill(torch.rand(bias.shape, generator=g) < 0.2, -INF)
        leaves["bias"] = leaves["bias"].to(case.dtype)
    options = {
        "key_lengths": lengths(case.num_keys) if case.has_key_lengths else None,
        "query_lengths": lengths(case.num_queries) if case.has_query_lengths else None,
        "dropout_p": case.dropout_p,
        "seed": case.seed * 7919 if case.dropout_p > 0 else None,
        "return_weights": case.return_weights,
        "scale": 0.3 if case.seed % 3 == 0 else None,
    }
    return Inputs({n: x.requires_grad_() for n, x in leaves.items()}, options)


def poison(inputs: Inputs) -> None:
    """NaN into all padding of query, key and value."""
    for lengths, names in (("key_lengths", ("key", "value")), ("query_lengths", ("query",))):
        valid = inputs.options[lengths]
        for name in names if valid is not None else ():
            x = inputs.leaves[name].detach().clone(memory_format=torch.preserve_format)
            for b, n in enumerate(valid.tolist()):
                x[b, :, n:] = NAN
            inputs.leaves[name] = x.requires_grad_()


def outputs_and_gradients(
    function: Callable[..., Any], inputs: Inputs, upstream: list[Tensor] | None = None
) -> dict[str, Tensor]:
    """Results by name; the gradients are those of sums weighted by fixed numbers."""
    returned = function(**inputs.leaves, **inputs.options)
    outputs = list(returned) if isinstance(returned, tuple) else [returned]
    if upstream is None:
        g = torch.Generator().manual_seed(1)
        upstream = [torch.randn(x.shape, generator=g).to(x.dtype) for x in outputs]
    gradients = torch.autograd.grad(outputs, list(inputs.leaves.values()), upstream)
    named = dict(zip(("output", "weights"), (x.detach() for x in outputs)))
    return named | {f"gradient of {n}": x for n, x in zip(inputs.leaves, gradients)}


def call(inputs: Inputs) -> Any:
    arguments: dict[str, Any] = {**inputs.leaves, **inputs.options}
    return cross_attention(**arguments)


def takers(inputs: Inputs) -> list[str]:
    """The backends that take these inputs."""
    return [
        b.name
        for b in available_backends()["cross_attention"]
        if not b.reasons(**inputs.leaves, **inputs.options)
    ]


def by_loops(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_weights: bool = False,
) -> Any:
    """One query row at a time over its valid keys only."""
    batch, heads, num_queries, head_dim = query.shape
    num_keys = key.shape[2]
    full = (batch, heads, num_queries, num_keys)
    bias = query.new_zeros(full) if bias is None else bias.expand(full)
    keep = keep_mask(seed, full, dropout_p, query.device) if seed is not None else None
    scale = head_dim**-0.5 if scale is None else scale
    result, weights = [], []
    for b in range(batch):
        keys = num_keys if key_lengths is None else int(key_lengths[b])
        rows = num_queries if query_lengths is None else int(query_lengths[b])
        for h in range(heads):
            for i in range(num_queries):
                row = query.new_zeros(num_keys)
                mixed = query.new_zeros(value.shape[3])
                if i < rows:
                    scores = [
                        (query[b, h, i] * key[b, h, j]).sum() * scale + bias[b, h, i, j]
                        for j in range(keys)
                    ]
                    allowed = [j for j in range(keys) if scores[j] > -INF]
                    total = sum((scores[j].exp() for j in allowed), query.new_zeros(()))
                    for j in allowed:
                        weight = scores[j].exp() / total
                        if keep is not None:
                            weight = weight * keep[b, h, i, j] / (1 - dropout_p)
                        row = row + weight * torch.nn.functional.one_hot(torch.tensor(j), num_keys)
                        mixed = mixed + weight * value[b, h, j]
                weights.append(row)
                result.append(mixed)
    output = torch.stack(result).view(batch, heads, num_queries, -1)
    return (output, torch.stack(weights).view(full)) if return_weights else output


def eager(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    bias: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | None = None,
    return_weights: bool = False,
) -> Any:
    """What one writes without the operator, all in the inputs' dtype: sets the allowed error."""
    scores = query @ key.transpose(-2, -1) * (query.shape[3] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    if key_lengths is not None:
        valid = torch.arange(key.shape[2]) < key_lengths[:, None]
        scores = scores.masked_fill(~valid[:, None, None], -INF)
    empty = (scores == -INF).all(-1, keepdim=True)
    if query_lengths is not None:
        rows = torch.arange(query.shape[2]) >= query_lengths[:, None]
        empty = empty | rows[:, None, :, None]
    weights = scores.masked_fill(empty, 0).softmax(-1).masked_fill(empty, 0)
    if seed is not None:
        b, h, tq, tk = scores.shape
        weights = weights * keep_mask(seed, (b, h, tq, tk), dropout_p, query.device)
        weights = weights / (1 - dropout_p)
    return (weights @ value, weights) if return_weights else weights @ value


def assert_close(
    got: dict[str, Tensor], want: dict[str, Tensor], plain: dict[str, Tensor] | None, eps: float
) -> None:
    """Error of each result at most twice that of plain PyTorch, plus 8 eps of the largest value."""
    assert got.keys() == want.keys()
    for name, truth in want.items():
        assert got[name].shape == truth.shape, name
        assert got[name].isfinite().all(), name
        if not truth.numel():
            continue
        error = (got[name].double() - truth).abs().max()
        allowed = 0.0 if plain is None else 2 * (plain[name].double() - truth).abs().max()
        assert error <= allowed + 8 * eps * (1 + truth.abs().max()), name


def small(**options: Any) -> Inputs:
    """B2-H2-T3x4-D2 with full lengths, float64."""
    case = Case(3, 2, 2, 3, 4, 2, 2, torch.float64, "dense", False, False, "", 0.0, False)
    inputs = build(case)
    inputs.options.update(options)
    return inputs
