"""Which blocks of the CUDA recurrence (csrc/kernels/cuda/lstm.h) take what, and how long.

A strand is a direction of an LSTM. Its recurrent weights stay in the registers of one block, or of
several that share out the hidden units and wait for each other after every step; either way on one
of several groups of batch rows. One block fills a multiprocessor, and all blocks of a launch run
at the same time. The numbers of cycles are an estimate from the kernel's instructions: nothing
here has been measured on a device yet.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from fusionkit.ops.backends import BackendError

# As in csrc/kernels/cuda/lstm.h.
THREADS = 512
DEPTH = 20
SHARED_BYTES = 96 * 1024
MOST_PIECES = 32

# Of shared memory: 32 KiB of partial sums, and biases and what a block knows about its work.
_SUMS_BYTES = 35 * 1024

# Cycles of a multiprocessor: products of a row by all threads; barriers, sums and activations of a
# chunk of rows; a barrier between blocks through the second-level cache.
_PRODUCT_CYCLES = 4 * DEPTH * THREADS / 128
_CHUNK_CYCLES = 400.0
_EXCHANGE_CYCLES = 3000.0


class Tile(NamedTuple):
    """How one group of rows of a strand is shared out.

    Args:
        units: hidden units of a block. slices: blocks. lanes: threads that multiply one row.
        most_rows: that the shared memory of a block holds.
    """

    units: int
    slices: int
    lanes: int
    most_rows: int


class Piece(NamedTuple):
    """A strand on the batch rows from ``first_row`` on, in blocks of ``block_rows`` rows."""

    strand: int
    first_row: int
    rows: int
    units: int
    block_rows: int


class Plan(NamedTuple):
    """What runs, one launch after the other, and how many cycles a step takes."""

    launches: tuple[tuple[Piece, ...], ...]
    cycles: float

    def numbers(self) -> list[int]:
        """As the operators take it."""
        return [n for i, launch in enumerate(self.launches) for p in launch for n in (i, *p)]


def tile(hidden: int, backward: bool) -> Tile | None:
    """The tile of a strand of this hidden size; None where a block has too few threads for it."""
    depth, units_of_group = (4 * hidden, 4) if backward else (hidden, 1)
    splits = _ceil(depth, DEPTH)
    groups = THREADS // splits
    if not groups:
        return None
    slices = _ceil(hidden, min(hidden, groups * units_of_group, THREADS))
    units = _ceil(hidden, slices)
    row_bytes = 4 * (splits * DEPTH + units + 1)
    return Tile(
        units,
        _ceil(hidden, units),
        splits * _ceil(units, units_of_group),
        (SHARED_BYTES - _SUMS_BYTES) // row_bytes,
    )


def size_reason(hidden: int, blocks: int) -> str:
    """Why strands of this hidden size cannot run on so many blocks at a time; empty if they can."""
    tiles = (tile(hidden, backward=False), tile(hidden, backward=True))
    if None in tiles:
        return f"hidden size {hidden} is too large for the threads of a block"
    most = max(own.slices for own in tiles if own is not None)
    if most <= blocks:
        return ""
    return f"hidden size {hidden} takes {most} blocks at a time, the device runs {blocks}"


def step_cycles(tile: Tile, rows: int) -> float:
    """An estimate of the time of a step of a block with this many rows."""
    teams = THREADS // tile.lanes
    chunk = max(1, min(rows, THREADS // tile.units, 4 * THREADS // tile.lanes))
    passes = _ceil(chunk, teams) * (rows // chunk) + _ceil(rows % chunk, teams)
    cycles = _ceil(rows, chunk) * _CHUNK_CYCLES + passes * _PRODUCT_CYCLES
    return cycles + (_EXCHANGE_CYCLES if tile.slices > 1 else 0.0)


@lru_cache(maxsize=256)
def plan(hidden: tuple[int, ...], batch: int, blocks: int, backward: bool) -> Plan:
    """The launches for strands of these hidden sizes.

    Args:
        hidden: of each strand, each with a `tile` of at most ``blocks`` slices.
        batch: at least 1. blocks: that run at the same time on the device.

    Raises:
        BackendError: a hidden size is too large for the device.
    """
    waiting: list[tuple[Piece, Tile]] = []
    for strand, size in enumerate(hidden):
        own = tile(size, backward)
        if own is None or own.slices > blocks:
            raise BackendError(f"length_aware_lstm: {size_reason(size, blocks)}")
        part = own.most_rows * (blocks // own.slices)
        for first in range(0, batch, part):
            rows = min(part, batch - first)
            waiting.append((Piece(strand, first, rows, own.units, min(rows, own.most_rows)), own))
    launches: list[list[tuple[Piece, Tile]]] = []
    left = 0
    for item in waiting:
        needed = _blocks(*item)
        if needed > left or len(launches[-1]) == MOST_PIECES:
            launches.append([])
            left = blocks
        launches[-1].append(item)
        left -= needed
    spread = [_spread(launch, blocks) for launch in launches]
    return Plan(
        tuple(tuple(piece for piece, _ in launch) for launch in spread),
        sum(max(step_cycles(own, p.block_rows) for p, own in launch) for launch in spread),
    )


def _spread(launch: list[tuple[Piece, Tile]], blocks: int) -> list[tuple[Piece, Tile]]:
    """Fewer rows a block for the slowest piece, as long as all blocks run at the same time."""
    launch = list(launch)
    left = blocks - sum(_blocks(*item) for item in launch)
    while True:
        times = [step_cycles(own, piece.block_rows) for piece, own in launch]
        slowest = times.index(max(times))
        piece, own = launch[slowest]
        faster = [r for r in range(1, piece.block_rows) if step_cycles(own, r) < times[slowest]]
        if not faster:
            return launch
        groups = _ceil(piece.rows, max(faster))
        smaller = piece._replace(block_rows=_ceil(piece.rows, groups))
        added = _blocks(smaller, own) - _blocks(piece, own)
        if added > left:
            return launch
        launch[slowest] = (smaller, own)
        left -= added


def _blocks(piece: Piece, own: Tile) -> int:
    return _ceil(piece.rows, piece.block_rows) * own.slices


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
