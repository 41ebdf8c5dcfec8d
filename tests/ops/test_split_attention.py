"""What `segment_mean` and `segment_scale` mean, on every backend that is installed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops.backends import available_backends, explain, force_backend
from fusionkit.ops.split_attention import segment_mean, segment_scale

# Those that take float64; the others have tests of their own.
BACKENDS = [
    b.name
    for b in available_backends()["segment_mean"]
    if not b.reasons(torch.zeros(1, 1, dtype=torch.float64))
]
NAN = math.nan


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with force_backend(request.param):
        yield request.param


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def borders(steps: int, segments: int) -> list[tuple[int, int]]:
    """The rule once more, in another form: start and end of every segment."""
    part = max(steps // segments, 1)
    starts = [min(k * part, steps) for k in range(segments)]
    return list(zip(starts, [*starts[1:], steps]))


@pytest.mark.parametrize("segments", [1, 2, 3, 5])
@pytest.mark.parametrize("trailing", [(), (2,), (3, 2)], ids=str)
@pytest.mark.parametrize("lengths", [None, [11, 4, 1, 0]], ids=["all", "lengths"])
def test_formula(
    backend: str, segments: int, trailing: tuple[int, ...], lengths: list[int] | None
) -> None:
    x, gains = draw(4, 3, 11, *trailing), draw(4, 3, segments, seed=1)
    n = None if lengths is None else torch.tensor(lengths)
    means = segment_mean(x, num_segments=segments, lengths=n)
    scaled = segment_scale(x, gains, lengths=n)
    assert means.shape == (4, 3, segments) and scaled.shape == x.shape
    for b, length in enumerate(lengths or [11] * 4):
        for k, (start, end) in enumerate(borders(length, segments)):
            part = x[b, :, start:end]
            want = part.flatten(1).mean(dim=1) if end > start else torch.zeros(3).double()
            torch.testing.assert_close(means[b, :, k], want, rtol=1e-12, atol=1e-14)
            gain = gains[b, :, k].reshape(3, *[1] * (x.dim() - 2))
            torch.testing.assert_close(scaled[b, :, start:end], part * gain, rtol=1e-12, atol=0)
        assert not scaled[b, :, length:].any()


def test_every_step_is_in_one_segment() -> None:
    for steps in range(1, 14):
        for segments in range(1, 7):
            gains = torch.arange(1.0, segments + 1)[None, None]
            found = segment_scale(torch.ones(1, 1, steps), gains)[0, 0]
            sizes = [int((found == k + 1).sum()) for k in range(segments)]
            assert sizes == [end - start for start, end in borders(steps, segments)]


def test_vectors(backend: str) -> None:
    x, gains = draw(3, 4), draw(3, 4, 1, seed=1)
    assert segment_mean(x).equal(x[..., None])
    assert segment_scale(x, gains).equal(x * gains[..., 0])


@pytest.mark.parametrize("segments", [1, 3])
def test_padding_gives_zeros_and_zero_gradient(backend: str, segments: int) -> None:
    lengths = torch.tensor([6, 2, 0])
    valid = (torch.arange(6) < lengths[:, None])[:, None, :]
    clean, dy = draw(3, 4, 6), draw(3, 4, 6, seed=3)
    results = []
    for poison in (NAN, math.inf, 0.0):
        x = torch.where(valid, clean, poison).requires_grad_()
        gains = draw(3, 4, segments, seed=1).requires_grad_()
        mean = segment_mean(x, num_segments=segments, lengths=lengths)
        scaled = segment_scale(x, gains, lengths=lengths)
        loss = mean.square().sum() + (scaled * torch.where(valid, dy, 1e9)).sum()
        dx, dgains = torch.autograd.grad(loss, [x, gains])
        assert (dx.masked_select(~valid) == 0).all()
        results.append((mean, scaled, dx, dgains))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert a.isfinite().all() and a.equal(b)


@pytest.mark.parametrize("lengths", [None, [5, 2]], ids=["all", "lengths"])
@pytest.mark.parametrize("segments", [1, 2])
def test_gradient_checks(lengths: list[int] | None, segments: int) -> None:
    n = None if lengths is None else torch.tensor(lengths)
    x, gains = draw(2, 3, 5, 2).requires_grad_(), draw(2, 3, segments, seed=1).requires_grad_()

    def mean(x: Tensor) -> Tensor:
        return segment_mean(x, num_segments=segments, lengths=n)

    def scale(x: Tensor, gains: Tensor) -> Tensor:
        return segment_scale(x, gains, lengths=n)

    assert torch.autograd.gradcheck(mean, [x])
    assert torch.autograd.gradcheck(scale, [x, gains])
    assert torch.autograd.gradgradcheck(scale, [x, gains])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_other_dtypes_are_rounded_once(dtype: torch.dtype) -> None:
    x, gains = draw(2, 3, 400).to(dtype), draw(2, 3, 2, seed=1).to(dtype)
    mean = segment_mean(x, num_segments=2)
    assert mean.dtype == dtype
    exact = segment_mean(x.double(), num_segments=2).to(dtype)
    torch.testing.assert_close(mean, exact, rtol=torch.finfo(dtype).eps, atol=1e-7)
    torch.testing.assert_close(
        segment_scale(x, gains), segment_scale(x.double(), gains.double()).to(dtype)
    )


def test_autocast_keeps_the_mean_and_takes_the_widest_dtype(backend: str) -> None:
    x, gains = draw(2, 3, 400, dtype=torch.float32), draw(2, 3, 2, seed=1, dtype=torch.float32)
    want = segment_mean(x, num_segments=2), segment_scale(x.bfloat16().float(), gains)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = segment_mean(x, num_segments=2), segment_scale(x.bfloat16(), gains)
    assert found[0].equal(want[0]) and found[1].equal(want[1])


def test_random_cases_against_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    for case in range(100):
        batch, channels, steps, segments = (
            int(torch.randint(1, high, (), generator=generator)) for high in (5, 9, 40, 8)
        )
        x = torch.randn(batch, channels, steps, generator=generator)
        lengths = torch.randint(0, steps + 1, (batch,), generator=generator)
        n = lengths if case % 2 else None
        for got, want in (
            (segment_mean(v, num_segments=segments, lengths=n) for v in (x, x.double())),
            (
                segment_scale(v, v[..., :1].expand(-1, -1, segments), lengths=n)
                for v in (x, x.double())
            ),
        ):
            torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("segments", [1, 3])
def test_compiled_and_exported(segments: int) -> None:
    class Both(torch.nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            mean = segment_mean(x, num_segments=segments, lengths=lengths)
            return segment_scale(x, mean, lengths=lengths)

    x, lengths = draw(3, 4, 7), torch.tensor([7, 2, 0])
    want = Both()(x, lengths)
    compiled = torch.compile(Both(), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, lengths), want)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        Both(), (x, lengths), dynamic_shapes={"x": {0: batch}, "lengths": {0: batch}}
    )
    other = draw(5, 4, 7, seed=2), torch.tensor([1, 2, 3, 4, 7])
    torch.testing.assert_close(program.module()(*other), Both()(*other))


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (2, 3, 4, 0)], ids=str)
@pytest.mark.parametrize("segments", [1, 2])
def test_empty(backend: str, shape: tuple[int, ...], segments: int) -> None:
    x = torch.ones(shape)
    mean = segment_mean(x, num_segments=segments)
    assert mean.equal(x.new_zeros(*shape[:2], segments))
    assert segment_scale(x, mean).shape == shape


X, GAINS = torch.zeros(2, 3, 4), torch.zeros(2, 3, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: segment_mean(X[0, 0]), DataError, r"x must be \(B, C\) or .* got \(4,\)"),
        (lambda: segment_mean(X.long()), DataError, "x must be floating point, got torch.int64"),
        (lambda: segment_mean(X, num_segments=0), ConfigError, "num_segments must be at least 1"),
        (lambda: segment_mean(X[..., 0], num_segments=2), DataError, "a vector"),
        (lambda: segment_mean(X[..., 0], lengths=torch.ones(2).long()), DataError, "a vector"),
        (lambda: segment_mean(X, lengths=torch.tensor([1, 5])), DataError, r"in \[0, 4\]"),
        (lambda: segment_mean(X, lengths=torch.tensor([1])), DataError, r"\(2,\), got \(1,\)"),
        (lambda: segment_scale(X, GAINS[0]), DataError, r"gains must be .* got \(3, 2\)"),
        (lambda: segment_scale(X, GAINS[:, :2]), DataError, r"gains must be .* \(2, 2, 2\)"),
        (lambda: segment_scale(X, GAINS[..., :0]), DataError, "gains must be"),
        (lambda: segment_scale(X, GAINS.double()), DataError, "gains is torch.float64 and x"),
        (lambda: segment_scale(X, GAINS.to("meta")), DataError, "gains is on meta"),
        (lambda: segment_scale(X[..., 0], GAINS), DataError, "a vector"),
    ],
)
def test_errors_name_the_argument(call: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()  # type: ignore[operator]


def test_explain_names_the_reference() -> None:
    lines = explain("segment_scale", X, GAINS).splitlines()
    assert lines[0] == "segment_scale" and "reference" in lines[-1] and "chosen" in lines[-1]
