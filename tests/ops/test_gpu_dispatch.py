"""Which backend tensors on a GPU get, where the kernels are there; it takes no GPU to ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from fusionkit.ops import AttentionPair, backends, cuda_runtime, explain
from fusionkit.ops.cross_attention import cost
from fusionkit.ops.length_aware_lstm import cuda as lstm_cuda

HALF = torch.float16
KERNELS = ("cuda", "triton")


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU of compute capability 9.0 with all kernels, and fake tensors to put onto it."""
    there = {
        op: [replace(b, unavailable="") if b.name in KERNELS else b for b in known]
        for op, known in backends.available_backends().items()
    }
    monkeypatch.setattr(backends, "_backends", there)
    monkeypatch.setattr(backends, "_forced", [])
    monkeypatch.setattr(cuda_runtime, "CUDA_ARCHITECTURES", ("90",))
    monkeypatch.setattr(cuda_runtime, "_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(lstm_cuda, "blocks_at_once", lambda x: 132)
    with FakeTensorMode():
        yield


def on_gpu(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(shape, dtype=dtype, device="cuda")


def chosen(op: str, *args: Any, **kwargs: Any) -> str:
    return backends.choose(op, *args, **kwargs).name


@pytest.mark.parametrize(
    ("steps", "head_dim", "dtype", "lengths", "wanted"),
    [
        (50, 5, torch.float32, True, "cuda"),
        (500, 10, torch.float32, False, "cuda"),
        (2048, 64, torch.float32, False, "cuda"),
        (50, 64, HALF, False, "cuda"),
        (2048, 64, HALF, False, "sdpa"),
        (2048, 64, HALF, True, "cuda"),
        (2048, 10, HALF, False, "cuda"),
        (50, 200, torch.float32, True, "triton"),
        (50, 300, torch.float32, True, "sdpa"),
        (50, 5, torch.float64, True, "sdpa"),
    ],
)
def test_cross_attention(
    steps: int, head_dim: int, dtype: torch.dtype, lengths: bool, wanted: str
) -> None:
    x = on_gpu(32, 8, steps, head_dim, dtype=dtype)
    options = {"key_lengths": on_gpu(32, dtype=torch.int64)} if lengths else {}
    assert chosen("cross_attention", x, x, x, **options) == wanted


def test_what_drops_by_a_seed_stays_with_the_kernels() -> None:
    x = on_gpu(32, 8, 2048, 64, dtype=HALF)
    assert chosen("cross_attention", x, x, x, dropout_p=0.1, seed=1) == "cuda"


def test_the_choice_is_explained_as_an_estimate() -> None:
    x = on_gpu(32, 8, 2048, 64, dtype=HALF)
    *lines, measured = explain("cross_attention", x, x, x).splitlines()[1:]
    said = {line.split()[0]: line for line in lines}
    for kernel in KERNELS:
        assert "estimated, not measured: " in said[kernel] and " us forward, sdpa " in said[kernel]
    assert said["sdpa"].startswith("  sdpa       chosen")
    assert measured == (
        "  measured   on CPUs only; for other devices the choice is by priority and estimates"
    )


def test_the_other_operators() -> None:
    x = on_gpu(32, 50, 300)
    assert chosen("gated_mask", x, [x, x]) == "cuda"
    assert chosen("segment_scale", x, on_gpu(32, 2, 300)) == "triton"
    queries = on_gpu(64, 30)
    assert chosen("info_nce", queries, queries) == "triton"
    heads = on_gpu(32, 8, 50, 5)
    pairs = [AttentionPair(heads, heads, heads)] * 2
    assert chosen("cross_attention_pairs", pairs) == "cuda"
    weights = [on_gpu(400, 300), on_gpu(400, 100), on_gpu(400), on_gpu(400)]
    assert chosen("length_aware_lstm", x, None, weights) == "cuda"
    assert chosen("length_aware_lstm_group", [x, x], None, [weights, weights]) == "cuda"
    assert chosen("length_aware_lstm", x, None, weights, cell="gru") == "flip"


def test_a_device_that_the_kernels_were_not_built_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_runtime, "_capability", lambda device: (8, 6))
    x = on_gpu(2, 3, 4)
    assert chosen("gated_mask", x, [x]) == "triton"
    assert "has compute capability 8.6, and the kernels were built for 90" in explain(
        "gated_mask", x, [x]
    )


@pytest.fixture
def tf32() -> Iterator[None]:
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield
    torch.backends.cuda.matmul.fp32_precision = before


def test_tf32_is_left_to_triton(monkeypatch: pytest.MonkeyPatch, tf32: None) -> None:
    monkeypatch.setattr(cost, "triton_absence", lambda: "")
    wide, narrow = on_gpu(32, 8, 50, 64), on_gpu(32, 8, 50, 10)
    assert chosen("cross_attention", wide, wide, wide) == "triton"
    assert chosen("cross_attention", narrow, narrow, narrow) == "cuda"
    assert "TF32 is asked for" in explain("cross_attention", wide, wide, wide)
