"""What `gated_mask` means, on every backend that is installed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops import explain, force_backend, gated_mask
from fusionkit.ops.backends import BackendError, available_backends
from fusionkit.ops.philox import keep_mask

KNOWN = available_backends()["gated_mask"]
# The kernels for GPUs have tests of their own.
BACKENDS = [b.name for b in KNOWN if not b.unavailable and b.name not in ("cuda", "triton")]
INF, NAN = math.inf, math.nan


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with force_backend(request.param):
        yield request.param


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def gates_for(x: Tensor, count: int) -> list[Tensor]:
    return [2 * draw(*x.shape, seed=i + 1, dtype=x.dtype) for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_formula(backend: str, count: int) -> None:
    x = draw(2, 5, 7)
    gates = gates_for(x, count)
    out = gated_mask(x, gates)
    for b, t, d in [(0, 0, 0), (1, 4, 6), (0, 3, 2), (1, 0, 5)]:
        mean = sum(1 / (1 + math.exp(-gate[b, t, d].item())) for gate in gates) / count
        assert out[b, t, d].item() == pytest.approx(x[b, t, d].item() * mean, rel=1e-6)


def test_gradient_formula(backend: str) -> None:
    """dx = dy * mean s, dg_i = dy * x * s_i (1 - s_i) / n, times keep / (1 - p)."""
    x, dy, p, seed = draw(2, 3, 5), draw(2, 3, 5, seed=9), 0.25, 77
    gates = gates_for(x, 2)
    inputs = [t.clone().requires_grad_() for t in (x, *gates)]
    dx, *dgates = torch.autograd.grad(
        gated_mask(inputs[0], inputs[1:], dropout_p=p, seed=seed), inputs, dy
    )
    dy = dy * keep_mask(seed, (2, 1, 3, 5), p, "cpu")[:, 0] / (1 - p)
    s = [1 / (1 + torch.exp(-gate)) for gate in gates]
    torch.testing.assert_close(dx, dy * (s[0] + s[1]) / 2)
    for i in range(2):
        torch.testing.assert_close(dgates[i], dy * x * s[i] * (1 - s[i]) / 2)


def test_padding_gives_zeros_and_zero_gradient(backend: str) -> None:
    """Whatever x, the gates and the upstream gradient hold there; lengths 0 and T included."""
    lengths = torch.tensor([4, 0, 6, 1])
    valid = (torch.arange(6) < lengths[:, None])[:, :, None]
    clean = [draw(4, 6, 5, seed=i) for i in range(4)]
    results = []
    for poison in (NAN, INF, 0.0):
        x, first, second, dy = (torch.where(valid, t, poison) for t in clean)
        inputs = [t.requires_grad_() for t in (x, first, second)]
        out = gated_mask(x, [first, second], lengths=lengths)
        grads = torch.autograd.grad(out, inputs, dy)
        for result in (out, *grads):
            assert (result.masked_select(~valid) == 0).all()
            assert result.isfinite().all()
        results.append((out, *grads))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert a.equal(b)
    whole = gated_mask(clean[0], [clean[1], clean[2]])
    assert results[0][0].equal(whole.masked_fill(~valid, 0.0))


def test_dropout(backend: str) -> None:
    x, p, seed = draw(3, 6, 9), 0.4, 2**40 + 3
    gates = gates_for(x, 2)
    keep = keep_mask(seed, (3, 1, 6, 9), p, "cpu")[:, 0]
    out = gated_mask(x, gates, dropout_p=p, seed=seed)
    torch.testing.assert_close(out, gated_mask(x, gates) * keep / (1 - p))
    assert out.equal(gated_mask(x, gates, dropout_p=p, seed=torch.tensor(seed)))
    assert not out.equal(gated_mask(x, gates, dropout_p=p, seed=seed + 1))


def test_dropout_and_lengths(backend: str) -> None:
    x, lengths = torch.full((2, 5, 3), NAN), torch.tensor([2, 0])
    x[0, :2] = draw(2, 3)
    out = gated_mask(x, [x], lengths=lengths, dropout_p=0.5, seed=1)
    assert (out[0, 2:] == 0).all() and (out[1] == 0).all()
    assert out[0, :2].equal(gated_mask(x, [x], dropout_p=0.5, seed=1)[0, :2])


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 0, 3), (2, 4, 0), (1, 1, 1)], ids=str)
def test_empty_and_smallest(backend: str, shape: tuple[int, int, int]) -> None:
    x = torch.ones(shape, requires_grad=True)
    lengths = torch.full((shape[0],), shape[1])
    out = gated_mask(x, [torch.zeros(shape)], lengths=lengths, dropout_p=0.0)
    assert out.equal(torch.full(shape, 0.5))
    (dx,) = torch.autograd.grad(out.sum(), x)
    assert dx.equal(torch.full(shape, 0.5))


@pytest.mark.parametrize(
    ("logit", "mask"),
    [(INF, 1.0), (-INF, 0.0), (1e9, 1.0), (-1e9, 0.0), (1000.0, 1.0), (-1000.0, 0.0), (0.0, 0.5)],
)
def test_extreme_logits(backend: str, logit: float, mask: float) -> None:
    x = draw(1, 2, 19).requires_grad_()
    gate = torch.full_like(x, logit).requires_grad_()
    out = gated_mask(x, [gate])
    assert out.equal(x * mask)
    dx, dgate = torch.autograd.grad(out.sum(), [x, gate])
    assert dx.equal(torch.full_like(x, mask))
    torch.testing.assert_close(dgate, x.detach() * mask * (1 - mask))


def test_nan_and_infinity_are_passed_on(backend: str) -> None:
    x, gate = draw(1, 1, 40), draw(1, 1, 40, seed=1)
    x[0, 0, 3], gate[0, 0, 17], x[0, 0, 38] = NAN, NAN, INF
    out = gated_mask(x, [gate, torch.zeros_like(x)])
    assert out.isnan().nonzero()[:, 2].tolist() == [3, 17]
    assert out.isinf().nonzero()[:, 2].tolist() == [38]


@pytest.mark.parametrize("frozen", range(4))
def test_gradients_only_where_needed(backend: str, frozen: int) -> None:
    inputs = [draw(2, 3, 4, seed=i).requires_grad_(i != frozen) for i in range(4)]
    needed = [t for t in inputs if t.requires_grad]
    some = torch.autograd.grad(gated_mask(inputs[0], inputs[1:]).sum(), needed)
    everything = [t.detach().requires_grad_() for t in inputs]
    whole = torch.autograd.grad(gated_mask(everything[0], everything[1:]).sum(), everything)
    torch.testing.assert_close(some, whole[:frozen] + whole[frozen + 1 :])


def test_one_tensor_as_input_and_gate(backend: str) -> None:
    """y = x s(x), so y' = s + x s (1 - s), and the same for the second derivative."""
    x = draw(2, 3, 4).requires_grad_()
    out = gated_mask(x, [x])
    (first,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    s = torch.sigmoid(x.detach().double())
    slope, xd = s * (1 - s), x.detach().double()
    torch.testing.assert_close(first.double(), s + xd * slope, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(
        second.double(), 2 * slope + xd * slope * (1 - 2 * s), atol=1e-6, rtol=1e-6
    )


def test_gradient_checks() -> None:
    """First and second derivatives of the reference against finite differences."""
    inputs = [draw(2, 4, 3, seed=i, dtype=torch.float64).requires_grad_() for i in range(3)]

    def run(x: Tensor, *gates: Tensor) -> Tensor:
        lengths = torch.tensor([3, 1])
        return gated_mask(x, gates, lengths=lengths, dropout_p=0.3, seed=5)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes_run_on_the_reference(dtype: torch.dtype) -> None:
    x = draw(2, 3, 4).to(dtype)
    gates = [gate.to(dtype) for gate in gates_for(x, 3)]
    out = gated_mask(x, gates)
    assert out.dtype == dtype
    exact = gated_mask(x.double(), [gate.double() for gate in gates])
    torch.testing.assert_close(out, exact.to(dtype))
    assert f"x is {dtype}, the kernel takes torch.float32" in explain("gated_mask", x, gates) or (
        "cpu" not in BACKENDS
    )


def test_autocast_takes_the_widest_dtype(backend: str) -> None:
    x, gate = draw(2, 3, 4), draw(2, 3, 4, seed=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = gated_mask(x, [gate.bfloat16(), gate])
    assert out.equal(gated_mask(x, [gate.bfloat16().float(), gate]))


def test_half_precision_is_refused_by_the_forced_kernel(extension: object) -> None:
    x = torch.zeros(1, 1, 1, dtype=torch.float16)
    with force_backend("cpu"), pytest.raises(BackendError, match=r"'cpu'.*torch\.float16"):
        gated_mask(x, [x])


def test_meta_device_runs_on_the_reference() -> None:
    x = torch.zeros(2, 3, 4, device="meta")
    assert gated_mask(x, [x], lengths=torch.zeros(2, dtype=torch.long, device="meta")).is_meta


X = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": X[0]}, DataError, r"x must be \(B, T, D\), got \(3, 4\)"),
        ({"x": X.long()}, DataError, "x must be floating point, got torch.int64"),
        ({"gate_logits": []}, DataError, "gate_logits must be a list of one or more .* got none"),
        ({"gate_logits": X}, DataError, "gate_logits must be a list .* got one tensor"),
        ({"gate_logits": [X, X[:1]]}, DataError, r"gate_logits\[1\] \(1, 3, 4\) and x"),
        ({"gate_logits": [X.double()]}, DataError, r"gate_logits\[0\] is torch.float64"),
        ({"gate_logits": [X.to("meta")]}, DataError, r"gate_logits\[0\] is on meta"),
        ({"lengths": torch.tensor([1])}, DataError, r"lengths must .* \(2,\), got \(1,\)"),
        ({"lengths": torch.tensor([1.0, 2.0])}, DataError, "lengths must be int64"),
        ({"lengths": torch.tensor([1, 4])}, DataError, r"lengths must be in \[0, 3\].* 1 to 4"),
        ({"lengths": torch.tensor([-1, 2])}, DataError, r"lengths must be in \[0, 3\]"),
        ({"lengths": torch.zeros(2, device="meta").long()}, DataError, "lengths is on meta"),
        ({"dropout_p": 1.0, "seed": 1}, ConfigError, r"dropout_p must be in \[0, 1\), got 1.0"),
        ({"dropout_p": -0.1, "seed": 1}, ConfigError, "dropout_p must be in"),
        ({"dropout_p": NAN, "seed": 1}, ConfigError, "dropout_p must be in"),
        ({"dropout_p": 0.1}, ConfigError, "seed is required when dropout_p > 0"),
        ({"dropout_p": 0.1, "seed": torch.tensor([1])}, DataError, "seed must be an int or a 0-d"),
        ({"dropout_p": 0.1, "seed": torch.tensor(1.0)}, DataError, "seed must be an int or a 0-d"),
        ({"dropout_p": 0.1, "seed": 2**63}, DataError, "seed must fit into 64 bits"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_errors_name_the_argument(
    arguments: dict[str, object], error: type[Exception], message: str
) -> None:
    complete: dict[str, object] = {"x": X, "gate_logits": [X], **arguments}
    with pytest.raises(error, match=message):
        gated_mask(**complete)  # type: ignore[arg-type]


def test_explain_names_every_kernel_and_what_is_chosen() -> None:
    title, *lines = explain("gated_mask", X, [X]).splitlines()
    assert title == "gated_mask"
    assert [line.split()[0] for line in lines] == [*(b.name for b in KNOWN), "measured"]
    chosen = [line.split()[0] for line in lines if line.split()[1] == "chosen"]
    assert chosen == [next(b.name for b in KNOWN if not b.refusals(X, [X]))]
