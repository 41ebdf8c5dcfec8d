"""`cross_attention` against loops in float64, and every backend against the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops import cross_attention, explain, force_backend
from fusionkit.ops.backends import BackendError, available_backends
from fusionkit.ops.philox import keep_mask

BACKENDS = [b.name for b in available_backends()["cross_attention"] if not b.unavailable]
NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small only wait for the other threads, for long on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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


CASES = [draw(seed) for seed in range(360)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_backend_is_as_accurate_as_plain_pytorch(case: Case) -> None:
    inputs = build(case)
    with force_backend("reference"):
        want = outputs_and_gradients(cross_attention, inputs.cast(torch.float64))
    plain = outputs_and_gradients(eager, inputs)
    poison(inputs)
    names = takers(inputs)
    assert "reference" in names
    for name in names:
        with force_backend(name):
            got = outputs_and_gradients(cross_attention, inputs)
        assert all(x.dtype == case.dtype for x in got.values())
        assert_close(got, want, plain, torch.finfo(case.dtype).eps)


def test_the_drawn_cases_reach_every_backend() -> None:
    reached = {name for case in CASES[:60] for name in takers(build(case))}
    assert reached == set(BACKENDS)


def loop_inputs(
    shape: tuple[int, int, int, int, int, int],
    key_lengths: list[int] | None,
    query_lengths: list[int] | None,
    bias_axes: str,
    dropout_p: float,
    return_weights: bool,
) -> tuple[str, Inputs]:
    case = Case(
        5, *shape, torch.float64, "dense", False, False, bias_axes, dropout_p, return_weights
    )
    inputs = build(case)
    inputs.options["key_lengths"] = None if key_lengths is None else torch.tensor(key_lengths)
    inputs.options["query_lengths"] = None if query_lengths is None else torch.tensor(query_lengths)
    return str(case), inputs


LOOP_INPUTS = [
    loop_inputs((2, 1, 4, 3, 2, 2), [3, 1], [4, 2], "", 0.0, False),
    loop_inputs((2, 1, 4, 3, 2, 2), [3, 1], [4, 2], "", 0.0, True),
    loop_inputs((3, 2, 3, 5, 3, 4), [0, 5, 2], [3, 0, 1], "BHQK", 0.0, False),
    loop_inputs((3, 2, 3, 5, 3, 4), [0, 5, 2], [3, 0, 1], "BHQK", 0.0, True),
    loop_inputs((2, 2, 2, 6, 1, 1), [6, 4], None, "QK", 0.5, True),
    loop_inputs((1, 3, 5, 2, 4, 2), None, [3], "H1K", 0.25, False),
]


@pytest.mark.parametrize(
    ("name", "inputs"),
    [
        pytest.param(name, inputs, id=f"{name}-{case}")
        for case, inputs in LOOP_INPUTS
        for name in takers(inputs)
    ],
)
def test_it_equals_loops_over_the_valid_keys(name: str, inputs: Inputs) -> None:
    want = outputs_and_gradients(by_loops, inputs)
    with force_backend(name):
        got = outputs_and_gradients(cross_attention, inputs)
    assert_close(got, want, None, torch.finfo(torch.float64).eps)


def small(**options: Any) -> Inputs:
    """B2-H2-T3x4-D2 with full lengths, float64."""
    case = Case(3, 2, 2, 3, 4, 2, 2, torch.float64, "dense", False, False, "", 0.0, False)
    inputs = build(case)
    inputs.options.update(options)
    return inputs


def small_with(option: str) -> Inputs:
    """Uneven lengths, one of them 0, and one more option."""
    inputs = small(key_lengths=torch.tensor([3, 0]), query_lengths=torch.tensor([2, 3]))
    if option == "bias":
        g = torch.Generator().manual_seed(0)
        inputs.leaves["bias"] = torch.randn(2, 1, 4, generator=g).double().requires_grad_()
    if option in ("weights", "dropout_and_weights"):
        inputs.options["return_weights"] = True
    if option in ("dropout", "dropout_and_weights"):
        inputs.options.update(dropout_p=0.4, seed=torch.tensor(11))
    return inputs


SMALL_OPTIONS = ["", "bias", "weights", "dropout", "dropout_and_weights"]
NAMES_AND_OPTIONS = [(n, option) for option in SMALL_OPTIONS for n in takers(small_with(option))]


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("with_bias", [False, True], ids=["nobias", "bias"])
def test_padding_holding_nan_changes_nothing(name: str, with_bias: bool) -> None:
    inputs = small(key_lengths=torch.tensor([2, 0]), query_lengths=torch.tensor([1, 3]))
    if with_bias:
        inputs.leaves["bias"] = torch.randn(2, 2, 3, 4).double().requires_grad_()
    with force_backend(name):
        want = outputs_and_gradients(cross_attention, inputs)
        poison(inputs)
        if with_bias:
            bias = inputs.leaves["bias"].detach().clone()
            bias[0, :, :, 2:], bias[0, :, 1:], bias[1] = NAN, NAN, NAN
            inputs.leaves["bias"] = bias.requires_grad_()
        got = outputs_and_gradients(cross_attention, inputs)
    for key, x in want.items():
        assert torch.equal(got[key], x), key
    assert not got["output"][0, :, 1:].any() and not got["output"][1].any()
    assert got["output"][0, :, :1].all()
    assert not got["gradient of query"][0, :, 1:].any()
    assert not got["gradient of key"][0, :, 2:].any()
    assert not got["gradient of value"][0, :, 2:].any()
    assert not any(x[1].any() for key, x in got.items() if key.startswith("gradient"))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_nan_gradient_arriving_at_padding_stops_there(name: str) -> None:
    inputs = small(key_lengths=torch.tensor([4, 0]), query_lengths=torch.tensor([2, 3]))
    upstream = torch.ones(2, 2, 3, 2, dtype=torch.float64)
    upstream[0, :, 2:], upstream[1] = NAN, NAN
    with force_backend(name):
        got = outputs_and_gradients(cross_attention, inputs, [upstream])
    assert all(x.isfinite().all() for x in got.values())
    assert got["gradient of value"][0].any()


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bias_needs_grad", [False, True], ids=["fixed", "learnt"])
def test_rows_whose_bias_excludes_every_key_are_zero(
    name: str, dtype: torch.dtype, bias_needs_grad: bool
) -> None:
    inputs = small().cast(dtype)
    bias = torch.zeros(2, 1, 3, 4, dtype=dtype)
    bias[0, :, 1] = -INF
    bias[1] = -INF
    if bias_needs_grad:
        inputs.leaves["bias"] = bias.requires_grad_()
    else:
        inputs.options["bias"] = bias
    with force_backend(name):
        got = outputs_and_gradients(cross_attention, inputs)
    assert all(x.isfinite().all() for x in got.values())
    assert not got["output"][0, :, 1].any() and not got["output"][1].any()
    assert got["output"][0, :, 0].any()
    assert not got["gradient of query"][0, :, 1].any()
    assert not any(x[1].any() for key, x in got.items() if key.startswith("gradient"))


@pytest.mark.parametrize("with_weights", [False, True], ids=["result", "weights"])
@pytest.mark.parametrize("dropout_p", [0.0, 0.5])
@pytest.mark.parametrize(
    "shape", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 2, 0, 4), (2, 2, 3, 0)],
    ids=["B0-H2-T3x4", "B2-H0-T3x4", "B2-H2-T0x4", "B2-H2-T3x0"],
)  # fmt: skip
def test_empty_axes_give_empty_or_zero_results(
    shape: tuple[int, int, int, int], dropout_p: float, with_weights: bool
) -> None:
    b, h, tq, tk = shape
    case = Case(
        1, b, h, tq, tk, 2, 5, torch.float32, "dense", True, True, "", dropout_p, with_weights
    )
    inputs = build(case)
    for name in takers(inputs):
        with force_backend(name):
            got = outputs_and_gradients(cross_attention, inputs)
        assert got["output"].shape == (b, h, tq, 5)
        assert not with_weights or got["weights"].shape == (b, h, tq, tk)
        assert not any(x.any() for x in got.values())
        assert all(got[f"gradient of {n}"].shape == x.shape for n, x in inputs.leaves.items())


@pytest.mark.parametrize(("name", "option"), NAMES_AND_OPTIONS)
def test_gradcheck(name: str, option: str) -> None:
    inputs = small_with(option)

    def function(*leaves: Tensor) -> Any:
        return call(Inputs(dict(zip(inputs.leaves, leaves)), inputs.options))

    with force_backend(name):
        assert torch.autograd.gradcheck(function, tuple(inputs.leaves.values()))


def test_the_reference_can_be_differentiated_twice() -> None:
    inputs = small(key_lengths=torch.tensor([4, 0]))

    def function(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return cross_attention(query, key, value, key_lengths=inputs.options["key_lengths"])

    with force_backend("reference"):
        assert torch.autograd.gradgradcheck(function, tuple(inputs.leaves.values()))


def test_dropout_uses_the_philox_mask_of_the_seed() -> None:
    inputs = small(return_weights=True)
    _, weights = call(inputs)
    inputs.options.update(dropout_p=0.5, seed=42)
    result, dropped = call(inputs)
    keep = keep_mask(42, tuple(weights.shape), 0.5, weights.device)
    torch.testing.assert_close(dropped, weights * keep / 0.5)
    torch.testing.assert_close(result, dropped @ inputs.leaves["value"])
    inputs.options["seed"] = torch.tensor(42)
    again, _ = call(inputs)
    assert torch.equal(result, again)
    inputs.options["seed"] = 43
    other, _ = call(inputs)
    assert not torch.equal(result, other)


@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
@pytest.mark.parametrize("threads", [1, 2])
def test_repeated_calls_give_the_same_bits(dropout_p: float, threads: int) -> None:
    torch.set_num_threads(threads)
    case = Case(9, 4, 4, 50, 33, 10, 10, torch.float32, "dense", True, True, "", dropout_p, False)
    inputs = build(case)
    for name in takers(inputs):
        with force_backend(name):
            first = outputs_and_gradients(cross_attention, inputs)
            for _ in range(10):
                for key, x in outputs_and_gradients(cross_attention, inputs).items():
                    assert torch.equal(x, first[key]), (name, key)


@pytest.mark.parametrize(("name", "option"), NAMES_AND_OPTIONS)
def test_it_compiles_without_graph_breaks(name: str, option: str) -> None:
    inputs = small_with(option)
    torch.compiler.reset()
    # aot_eager traces forward and backward like the default compiler, without its C++ build.
    compiled = torch.compile(cross_attention, fullgraph=True, backend="aot_eager")
    with force_backend(name):
        want = outputs_and_gradients(cross_attention, inputs)
        got = outputs_and_gradients(compiled, inputs)
    assert_close(got, want, None, torch.finfo(torch.float64).eps)


def test_sdpa_is_preferred_to_the_reference_and_explain_says_why_not() -> None:
    inputs = small()
    assert "reference  a backend of higher priority is chosen" in explain(
        "cross_attention", **inputs.leaves
    )
    text = explain("cross_attention", **inputs.leaves, dropout_p=0.1, seed=1, return_weights=True)
    (sdpa,) = (line for line in text.splitlines() if line.strip().startswith("sdpa"))
    assert "does not follow the seed" in sdpa and "does not return the weights" in sdpa
    bias = torch.zeros(3, 4, dtype=torch.float32)
    assert "SDPA wants one dtype" in explain("cross_attention", **inputs.leaves, bias=bias)
    empty = torch.zeros(2, 2, 0, 2)
    assert "an axis has size 0" in explain("cross_attention", empty, empty, empty)


def test_a_forced_backend_refuses_with_its_reasons() -> None:
    inputs = small(dropout_p=0.1, seed=1)
    with force_backend("sdpa"), pytest.raises(BackendError, match="does not follow the seed"):
        outputs_and_gradients(cross_attention, inputs)


def test_autocast_computes_in_its_dtype() -> None:
    inputs = small(key_lengths=torch.tensor([4, 2])).cast(torch.float32)
    inputs.leaves["value"] = inputs.leaves["value"].detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = outputs_and_gradients(cross_attention, inputs)
    assert got["output"].dtype == torch.bfloat16
    assert got["gradient of query"].dtype == torch.float32
    want = outputs_and_gradients(cross_attention, inputs.cast(torch.float64))
    assert_close(got, want, None, torch.finfo(torch.bfloat16).eps)


def test_a_bias_of_higher_precision_keeps_it() -> None:
    inputs = small().cast(torch.float16)
    inputs.options["bias"] = torch.tensor([-2e5, -1e5, -1e5, -1e5])
    got = call(inputs)
    inputs.options["bias"] = inputs.options["bias"].double()
    want = call(inputs.cast(torch.float64))
    # Half precision would have turned every score to -inf and the rows to zeros; float32 holds
    # scores of 1e5 to 0.008.
    torch.testing.assert_close(got.double(), want, atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(2, 3, 2)}, r"query must be \(B, H, T, D\)"),
        ({"query": torch.zeros(2, 2, 3, 0)}, "query must have a head dim of at least 1"),
        ({"key": torch.zeros(2, 2, 4, 3)}, "key .* differ in head dim"),
        ({"key": torch.zeros(3, 2, 4, 2)}, "key .* differ in batch or heads"),
        ({"key": torch.zeros(2, 2, 4, 2).long()}, "key must be floating point"),
        ({"key": torch.zeros(2, 2, 4, 2).double()}, "key is torch.float64 and query torch.float32"),
        ({"key": torch.zeros(2, 2, 4, 2, device="meta")}, "key is on meta"),
        ({"value": torch.zeros(2, 2, 5, 2)}, "value .* differ in steps"),
        ({"key_lengths": torch.tensor([4])}, "key_lengths must have one entry a sample"),
        ({"key_lengths": torch.tensor([4.0, 1.0])}, "key_lengths must be int64"),
        ({"key_lengths": torch.tensor([5, 1])}, r"key_lengths must be in \[0, 4\].* 1 to 5"),
        ({"query_lengths": torch.tensor([-1, 1])}, r"query_lengths must be in \[0, 3\]"),
        ({"query_lengths": torch.ones(2, device="meta").long()}, "query_lengths is on meta"),
        ({"bias": torch.zeros(3, 4, dtype=torch.bool)}, "bias must be floating point"),
        ({"bias": torch.zeros(3, 5)}, "bias must broadcast"),
        ({"bias": torch.zeros(1, 1, 1, 3, 4)}, "bias must broadcast"),
        ({"bias": torch.zeros(3, 4, device="meta")}, "bias is on meta"),
        ({"dropout_p": 0.1, "seed": torch.tensor([1])}, "seed must be an int or a 0-d int64"),
        ({"dropout_p": 0.1, "seed": torch.tensor(1.0)}, "seed must be an int or a 0-d int64"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)
def test_data_that_do_not_fit_are_refused_by_name(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "query": torch.zeros(2, 2, 3, 2),
        "key": torch.zeros(2, 2, 4, 2),
        "value": torch.zeros(2, 2, 4, 2),
    }
    with pytest.raises(DataError, match=message):
        cross_attention(**(arguments | change))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout_p": 0.1}, "seed is required when dropout_p > 0"),
        ({"dropout_p": 1.0, "seed": 1}, r"dropout_p must be in \[0, 1\)"),
        ({"dropout_p": -0.1, "seed": 1}, r"dropout_p must be in \[0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    x = torch.zeros(2, 2, 3, 2)
    with pytest.raises(ConfigError, match=message):
        cross_attention(x, x, x, **options)
