"""What a launch of the Triton attention kernels asks the compiler for."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import product
from typing import Any

import pytest
import torch

from fusionkit.ops.cross_attention.triton_launch import Attention, backward, forward

from on_triton import runs

KERNELS = (
    ("forward", "attention_forward"),
    ("backward", "attention_backward_rows"),
    ("backward", "attention_backward_keys"),
)


class Recorder:
    """Stands for a kernel; keeps what it would be run with."""

    def __init__(self, launched: list[dict[str, Any]]) -> None:
        self.launched = launched

    def __getitem__(self, grid: tuple[int]) -> Any:
        return lambda **given: self.launched.append(given)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for module, name in KERNELS:
        kernels = import_module(f"fusionkit.ops.cross_attention.triton_{module}")
        monkeypatch.setattr(kernels, name, Recorder(found))
    return found


@pytest.fixture
def setting() -> Iterator[Any]:
    """Of float32 products on CUDA devices; as before afterwards."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    yield matmul
    matmul.fp32_precision = before


def launch_all(x: torch.Tensor) -> None:
    pair = Attention(x, x, x, None, None, None, 0.5, None)
    outs, row_sums = forward([pair], 0.0)
    backward([pair], outs, outs, row_sums, 0.0, 0b111)


@runs
def test_tf32_where_torch_says_so_and_the_numbers_are_float32(
    launched: list[dict[str, Any]], setting: Any
) -> None:
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    for precision, dtype in product(("ieee", "tf32", "none"), dtypes):
        setting.fp32_precision = precision
        launched.clear()
        launch_all(torch.zeros(1, 2, 5, 8, dtype=dtype))
        expected = "tf32" if precision == "tf32" and dtype == torch.float32 else "ieee"
        assert [given["PRECISION"] for given in launched] == [expected] * 3, (precision, dtype)


@runs
@pytest.mark.parametrize(
    ("dtype", "dim", "unit"),
    [
        (torch.float32, 5, 1), (torch.float32, 10, 2), (torch.float32, 100, 4),
        (torch.float16, 30, 2), (torch.bfloat16, 100, 4), (torch.bfloat16, 64, 8),
    ],
)  # fmt: skip
def test_a_thread_reads_as_many_numbers_at_once_as_the_head_dim_allows(
    launched: list[dict[str, Any]], dtype: torch.dtype, dim: int, unit: int
) -> None:
    launch_all(torch.zeros(1, 5, 2, dim, dtype=dtype).transpose(1, 2))
    assert [given["UNIT"] for given in launched] == [unit] * 3


@runs
def test_tiles_fit_the_sequences(launched: list[dict[str, Any]]) -> None:
    """Two sets of tiles, whatever the lengths; small ones where large ones would be half empty."""
    found = []
    for steps in (1, 50, 64, 65, 500):
        launched.clear()
        launch_all(torch.zeros(1, 2, steps, 64, dtype=torch.float16))
        found.append([(given["ROWS"], given["KEY_STEPS"]) for given in launched])
    assert found == [found[0]] * 3 + [found[4]] * 2
    assert all(rows <= 64 and keys <= 64 for rows, keys in found[0])
    assert found[0] != found[4]
