"""Which blocks of the CUDA recurrence take what, and when it is refused; no kernel runs."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import nn

from fusionkit.ops.backends import BackendError
from fusionkit.ops.cuda_runtime import EMULATED
from fusionkit.ops.length_aware_lstm import cuda_plan
from fusionkit.ops.length_aware_lstm.cuda import (
    group_reasons,
    group_slower_reasons,
    lstm_reasons,
    lstm_slower_reasons,
)
from fusionkit.ops.length_aware_lstm.cuda_plan import Piece, plan, size_reason, tile

HEADER = Path(__file__).parents[2] / "csrc" / "kernels" / "cuda" / "lstm.h"
MMLATCH = (100,) * 6
MASKS = (35, 35, 74, 74, 300, 300)


def draw(seed: int) -> tuple[tuple[int, ...], int, int, bool]:
    """Hidden sizes, batch, blocks at a time, and whether backward."""
    g = torch.Generator().manual_seed(seed)
    blocks = int(torch.randint(10, 150, (), generator=g))
    count = int(torch.randint(1, 40, (), generator=g))
    sizes = torch.randint(1, 301, (count,), generator=g).tolist()
    batch = int(2 ** (12 * torch.rand((), generator=g)))
    return tuple(sizes), batch, blocks, seed % 2 == 0


@pytest.mark.parametrize("seed", range(60))
def test_every_row_of_every_strand_is_taken_once(seed: int) -> None:
    hidden, batch, blocks, backward = draw(seed)
    found = plan(hidden, batch, blocks, backward)
    taken: Counter[tuple[int, int]] = Counter()
    for launch in found.launches:
        assert 0 < len(launch) <= cuda_plan.MOST_PIECES
        assert sum(blocks_of(piece, hidden) for piece in launch) <= blocks
        for piece in launch:
            own = tile(hidden[piece.strand], backward)
            assert own is not None and own.lanes <= cuda_plan.THREADS
            assert piece.units == own.units and 0 < piece.block_rows <= own.most_rows
            rows = range(piece.first_row, piece.first_row + piece.rows)
            taken.update((piece.strand, row) for row in rows)
    assert taken == Counter(product(range(len(hidden)), range(batch)))


def blocks_of(piece: Piece, hidden: tuple[int, ...]) -> int:
    return -(-piece.rows // piece.block_rows) * -(-hidden[piece.strand] // piece.units)


@pytest.mark.parametrize("backward", [False, True])
def test_the_units_of_a_strand_have_threads_for_all_their_weights(backward: bool) -> None:
    for hidden in range(1, 2561):
        own = tile(hidden, backward)
        assert own is not None
        assert own.lanes <= cuda_plan.THREADS and own.units <= cuda_plan.THREADS
        assert own.units * (own.slices - 1) < hidden <= own.units * own.slices
        assert own.lanes * 4 * cuda_plan.DEPTH >= 4 * own.units * hidden
        assert own.most_rows >= 1
    assert tile(100, backward) == (100, 1, 500, 31 if backward else 77)


def test_more_blocks_are_never_slower() -> None:
    for hidden in (MMLATCH, MASKS):
        cycles = [plan(hidden, 32, blocks, False).cycles for blocks in (24, 48, 96, 132, 148)]
        assert cycles == sorted(cycles, reverse=True) and cycles[-1] < cycles[0] / 2
        assert len(plan(hidden, 32, 132, True).launches) == 1


def test_sizes_that_do_not_fit() -> None:
    assert size_reason(300, 10) == ""
    assert size_reason(300, 9) == "hidden size 300 takes 10 blocks at a time, the device runs 9"
    assert "threads of a block" in size_reason(2561, 1000)
    with pytest.raises(BackendError, match="hidden size 300 takes 10 blocks"):
        plan((300,), 4, 9, True)


def test_the_numbers_are_those_of_the_kernel() -> None:
    named = {"THREADS": "Threads", "DEPTH": "Depth", "MOST_PIECES": "MostPieces"}
    named["SHARED_BYTES"] = "SharedBytes"
    text = HEADER.read_text()
    for name, in_header in named.items():
        (found,) = re.findall(rf"constexpr int kLstm{in_header} = ([\d *]+);", text)
        factors = [int(factor) for factor in found.split("*")]
        assert getattr(cuda_plan, name) == factors[0] * (factors[1] if len(factors) > 1 else 1)


@pytest.mark.parametrize(
    ("x", "cell", "reason"),
    [
        (torch.zeros(1, 2, 3, dtype=torch.float64), "lstm", "float64"),
        (torch.zeros(1, 2, 3, dtype=torch.float16), "lstm", "the kernel takes torch.float32"),
        (torch.zeros(1, 2, 3), "gru", "cell is 'gru'"),
        (torch.zeros(1, 2, 3, device="meta"), "lstm", "is on meta"),
    ],
)
def test_what_it_does_not_take(x: torch.Tensor, cell: str, reason: str) -> None:
    weights = list(nn.LSTM(3, 2).parameters())
    assert reason in "; ".join(lstm_reasons(x, None, weights, cell=cell))
    assert not lstm_slower_reasons(x, None, weights)
    assert bool(lstm_reasons(torch.zeros(1, 2, 3), None, weights)) == (not EMULATED)


def test_groups_that_it_does_not_take() -> None:
    weights = list(nn.LSTM(3, 2).parameters())
    reasons = group_reasons([torch.zeros(1, 2, 3)] * 63, None, [weights] * 63)
    assert reasons == ["63 inputs, the kernel takes up to 62"]


@pytest.mark.skipif(EMULATED, reason="needs a process without FUSIONKIT_CUDA_ON_CPU")
def test_large_sizes_are_expected_to_be_faster_in_cudnn() -> None:
    def reasons(batch: int, hidden: int) -> list[str]:
        weights = [torch.empty(4 * hidden, n, device="meta") for n in (3, hidden, 1, 1)]
        x = torch.empty(batch, 2, 3, device="meta")
        return group_slower_reasons([x], None, [weights])

    assert not reasons(32, 100) and not reasons(32, 300)
    (reason,) = reasons(512, 500)
    assert reason.startswith("estimated, not measured")
