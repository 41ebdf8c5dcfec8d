"""The emulator of CUDA on the CPU computes what a device does, and sees what is wrong."""

from __future__ import annotations

import math
import os
import subprocess
from itertools import chain, product
from pathlib import Path

import pytest
import torch

from fusionkit.ops.philox import philox_4x32

import cuda_emulated


@pytest.fixture(scope="session")
def program() -> Path:
    return cuda_emulated.program(cuda_emulated.EMULATOR / "selftest.cpp")


def done(program: Path, case: str, order: str = "forward") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, case],
        env={**os.environ, "FUSIONKIT_EMULATED_ORDER": order},
        capture_output=True,
        text=True,
    )


def numbers(program: Path, case: str, order: str = "forward") -> list[float]:
    result = done(program, case, order)
    assert result.returncode == 0, result.stderr
    return [float(line) for line in result.stdout.split()]


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
def test_order_does_not_matter_with_barriers(program: Path, order: str) -> None:
    assert numbers(program, "neighbours", order) == [*range(1, 64), 0]
    assert numbers(program, "all blocks", order) == [15] * 5


def test_a_missing_barrier_is_seen(program: Path) -> None:
    """What was not written yet is NaN; in the other order it was written, for all but one."""
    missing = {
        order: sum(map(math.isnan, numbers(program, "neighbours without a barrier", order)))
        for order in ("forward", "reverse", "shuffled")
    }
    assert missing["forward"] == 63 and missing["reverse"] == 1
    assert 5 < missing["shuffled"] < 60


def test_a_missing_barrier_of_the_grid_is_seen(program: Path) -> None:
    assert numbers(program, "all blocks without a barrier") == [1, 3, 6, 10, 15]
    assert numbers(program, "all blocks without a barrier", "reverse") == [15, 14, 12, 9, 5]


def test_shared_memory_is_poisoned_for_every_block(program: Path) -> None:
    found = numbers(program, "shared memory")
    assert len(found) == 4 and all(map(math.isnan, found))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("beyond", "block (0, 0, 0) wrote beyond its 16 bytes of dynamic shared memory"),
        ("before", "block (0, 0, 0) wrote before its 16 bytes of dynamic shared memory"),
        (
            "missing thread",
            "deadlock: in block (0, 0, 0), 63 threads wait at __syncthreads, 1 have ended",
        ),
        ("missing lane", "deadlock: in block (0, 0, 0), 62 wait at any, 2 have ended"),
        ("missing arrival", "deadlock: threads spin for what no thread does"),
        (
            "different collectives",
            "lanes of one warp wait at shuffle and at shuffle_xor in block (0, 0, 0)",
        ),
        ("unaligned", "an access of 16 bytes is not aligned"),
    ],
)
def test_faults_end_the_process(program: Path, case: str, message: str) -> None:
    result = done(program, case)
    assert result.returncode < 0
    assert result.stderr == f"CUDA on the CPU: {message}\n"


def test_writes_within_the_shared_memory(program: Path) -> None:
    assert numbers(program, "within") == []


def test_an_unknown_order(program: Path) -> None:
    assert "must be forward, reverse or shuffled" in done(program, "within", "sideways").stderr


def test_an_invalid_launch_is_an_error(program: Path) -> None:
    assert numbers(program, "invalid") == [9, 9]


@pytest.mark.parametrize("order", ["forward", "reverse"])
def test_collectives_of_a_warp(program: Path, order: str) -> None:
    """Lane l of warp w gives 3 l + w."""
    expected = []
    for warp, lane in product(range(2), range(32)):
        values = [3 * i + warp for i in range(32)]
        expected += [sum(values), max(values), values[7], values[lane ^ 1], warp == 1]
    assert numbers(program, "collectives", order) == expected


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_product_of_tensor_cores(program: Path, dtype: str) -> None:
    a = torch.tensor([(i % 23 - 11) / 8 for i in range(256)]).view(16, 16)
    b = torch.tensor([(i % 19 - 9) / 4 for i in range(128)]).view(16, 8)
    found = torch.tensor(numbers(program, f"product of {dtype}")).view(16, 8)
    assert torch.equal(found, a @ b + 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding(program: Path, dtype: torch.dtype) -> None:
    """Ties, subnormal and too large numbers, as PyTorch rounds them."""
    values = [1.0, -2.5, 1.00048828125, 1.00146484375, 1.001953125, 65519.0, 65520.0]
    values += [1e-5, -6e-8, 2e-8, 3e38, -math.inf]
    expected = torch.tensor(values).to(dtype).float()
    found = torch.tensor(numbers(program, str(dtype).removeprefix("torch.")))
    assert torch.equal(found, expected)


def test_random_words_are_those_of_every_backend(program: Path) -> None:
    seed, counter = -(2**40) - 5, (7, 6, 5, 4)
    key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    c0, c1, c2, c3 = (torch.tensor([word]) for word in counter)
    expected = philox_4x32(key, (c0, c1, c2, c3))
    assert numbers(program, "philox") == list(chain(*(words.tolist() for words in expected)))
