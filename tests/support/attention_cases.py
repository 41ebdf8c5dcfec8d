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

# Those that run on the CPU. The kernels for GPUs, which an interpreter and an emulator run there
# slowly, have tests of their own.
BACKENDS = [
    b.name
    for b in available_backends()["cross_attention"]
    if not b.unavailable and b.name not in ("cuda", "triton")
]
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
    layouts: tuple[str, str, str]  # of query, key and value
    has_key_lengths: bool
    has_query_lengths: bool
    bias_axes: str
    dropout_p: float
    return_weights: bool = False
    spread: float = 1.0  # standard deviation of the query, and so about that of the scores
    learns_bias: bool = True

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        layouts = "+".join(dict.fromkeys(self.layouts))
        return (
            f"B{self.batch}-H{self.heads}-T{self.num_queries}x{self.num_keys}-D{self.head_dim}"
            f"-V{self.value_dim}-{dtype}-{layouts}-{self.bias_axes or 'nobias'}"
            f"{'-fixed' * (not self.learns_bias)}{'-klen' * self.has_key_lengths}"
            f"{'-qlen' * self.has_query_lengths}{'-drop' * (self.dropout_p > 0)}"
            f"{'-weights' * self.return_weights}-spread{self.spread:g}-s{self.seed}"
        )


LAYOUTS = (
    "dense", "heads_split", "packed", "every_second", "every_second_step", "reversed_axes",
    "broadcast", "broadcast_steps", "unaligned",
)  # fmt: skip
DENSE = ("dense", "dense", "dense")
BIAS_AXES = ("BHQK", "HQK", "QK", "K", "B11K", "H1K", "1Q1", "BHQ1", "B1QK", "1")


def draw(seed: int) -> Case:
    g = torch.Generator().manual_seed(seed)

    def pick(*options: Any) -> Any:
        return options[int(torch.randint(len(options), (), generator=g))]

    head_dim = pick(1, 2, 4, 5, 8, 10, 16)
    layout = pick("dense", "heads_split", "every_second", "reversed_axes", "broadcast")
    return Case(
        seed=seed,
        batch=pick(1, 2, 3, 5),
        heads=pick(1, 2, 4),
        num_queries=pick(1, 2, 3, 7, 16, 21, 50),
        num_keys=pick(1, 2, 5, 8, 17, 33, 50),
        head_dim=head_dim,
        value_dim=pick(head_dim, head_dim, 1, 3, 12),
        dtype=pick(torch.float32, torch.float32, torch.float64, torch.bfloat16),
        layouts=(layout, layout, layout),
        has_key_lengths=pick(True, True, False),
        has_query_lengths=pick(True, True, False),
        bias_axes=pick("", "", "BHQK", "QK", "K", "B11K", "H1K", "1Q1"),
        dropout_p=pick(0.0, 0.0, 0.3, 0.75),
        return_weights=pick(False, False, True),
    )


@dataclass
class Inputs:
    """Leaf tensors by name, the other arguments of the call, and the layouts of the leaves."""

    leaves: dict[str, Tensor]
    options: dict[str, Any]
    layouts: dict[str, str]

    def cast(self, dtype: torch.dtype) -> Inputs:
        leaves = {n: x.detach().to(dtype).requires_grad_() for n, x in self.leaves.items()}
        return Inputs(leaves, self.options, self.layouts)

    def to(self, device: str) -> Inputs:
        """The same numbers there, in the same layouts."""
        leaves = {n: moved(x, device).requires_grad_() for n, x in self.leaves.items()}
        options = {
            name: moved(x, device) if isinstance(x, Tensor) else x
            for name, x in self.options.items()
        }
        return Inputs(leaves, options, self.layouts)


def moved(x: Tensor, device: str) -> Tensor:
    """The same numbers there, with the same strides."""
    numbers = x.untyped_storage().nbytes() // x.element_size()
    everything = x.detach().as_strided((numbers,), (1,), 0).to(device)
    return everything.as_strided(x.shape, x.stride(), x.storage_offset())


def lay_out(x: Tensor, layout: str) -> Tensor:
    """The values of ``x`` (B, H, T, D) with other strides, and NaN in memory between and around.

    The layouts ``broadcast`` and ``broadcast_steps`` repeat the first head or the first step.
    """
    b, h, t, d = x.shape
    if layout == "heads_split":
        wide = x.new_empty(b, t, h * d).view(b, t, h, d).transpose(1, 2)
    elif layout == "packed":
        wide = x.new_full((b, t, 3, h, d), NAN)[:, :, 1].transpose(1, 2)
    elif layout == "every_second":
        wide = x.new_full((b, h, t, 2 * d), NAN)[..., ::2]
    elif layout == "every_second_step":
        wide = x.new_full((b, h, 2 * t, d), NAN)[:, :, 1::2]
    elif layout == "reversed_axes":
        wide = x.new_empty(d, t, h, b).permute(3, 2, 1, 0)
    elif layout == "unaligned":
        wide = x.new_full((x.numel() + 2,), NAN)[1:-1].view(x.shape)
    elif layout == "broadcast":
        return x[:, :1].contiguous().expand(x.shape)
    elif layout == "broadcast_steps":
        return x[:, :, :1].contiguous().expand(x.shape)
    else:
        return x.contiguous()
    return wide.copy_(x)


def build(case: Case) -> Inputs:
    g = torch.Generator().manual_seed(case.seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    def lengths(steps: int) -> Tensor:
        return torch.randint(steps + 1, (case.batch,), generator=g)

    sizes = {"B": case.batch, "H": case.heads, "Q": case.num_queries, "K": case.num_keys, "1": 1}
    values = {
        "query": normal(case.batch, case.heads, case.num_queries, case.head_dim) * case.spread,
        "key": normal(case.batch, case.heads, case.num_keys, case.head_dim),
        "value": normal(case.batch, case.heads, case.num_keys, case.value_dim),
    }
    layouts = dict(zip(values, case.layouts))
    leaves = {name: lay_out(x.to(case.dtype), layouts[name]) for name, x in values.items()}
    options: dict[str, Any] = {
        "key_lengths": lengths(case.num_keys) if case.has_key_lengths else None,
        "query_lengths": lengths(case.num_queries) if case.has_query_lengths else None,
        "dropout_p": case.dropout_p,
        "seed": case.seed * 7919 if case.dropout_p > 0 else None,
        "return_weights": case.return_weights,
        "scale": 0.3 if case.seed % 3 == 0 else None,
    }
    if case.bias_axes:
        bias = normal(*(sizes[axis] for axis in case.bias_axes)) * case.spread
        excluded = torch.rand(bias.shape, generator=g) < 0.2
        whole_rows = torch.rand((*bias.shape[:-1], 1), generator=g) < 0.05
        bias = bias.masked_fill(excluded | whole_rows, -INF).to(case.dtype)
        if len(case.bias_axes) == 4:
            layouts["bias"] = case.layouts[0]
            bias = lay_out(bias, layouts["bias"])
        if case.learns_bias:
            leaves["bias"] = bias
        else:
            options["bias"] = bias
    return Inputs({n: x.requires_grad_() for n, x in leaves.items()}, options, layouts)


def poison(inputs: Inputs) -> None:
    """NaN into all padding of query, key and value, and into bias that no valid score takes."""
    batch, heads, num_queries, _ = inputs.leaves["query"].shape
    num_keys = inputs.leaves["key"].shape[2]
    valid = {}
    for name, steps in (("query_lengths", num_queries), ("key_lengths", num_keys)):
        lengths = inputs.options[name]
        if lengths is None:
            lengths = torch.full((batch,), steps)
        valid[name] = torch.arange(steps) < lengths[:, None]
    rows, columns = ~valid["query_lengths"][:, None], ~valid["key_lengths"][:, None]
    padding = {"query": rows, "key": columns, "value": columns}
    for name, unused in padding.items():
        _put_nan(inputs, inputs.leaves, name, unused[..., None])
    unused = (rows[..., None] | columns[:, :, None]).expand(batch, heads, -1, -1)
    for given in (inputs.leaves, inputs.options):
        bias = given.get("bias")
        if bias is None:
            continue
        for axis, size in enumerate((1,) * (4 - bias.dim()) + tuple(bias.shape)):
            unused = unused.all(axis, keepdim=True) if size == 1 else unused
        _put_nan(inputs, given, "bias", unused.view(bias.shape))


def _put_nan(inputs: Inputs, given: dict[str, Any], name: str, where: Tensor) -> None:
    x = given[name]
    poisoned = x.detach().masked_fill(where, NAN)
    if name in inputs.layouts:
        poisoned = lay_out(poisoned, inputs.layouts[name])
    given[name] = poisoned.requires_grad_(x.requires_grad)


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
    """Those of BACKENDS that take these inputs."""
    return [
        b.name
        for b in available_backends()["cross_attention"]
        if b.name in BACKENDS and not b.reasons(**inputs.leaves, **inputs.options)
    ]


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
    case = Case(3, 2, 2, 3, 4, 2, 2, torch.float64, DENSE, False, False, "", 0.0)
    inputs = build(case)
    inputs.options.update(options)
    return inputs
