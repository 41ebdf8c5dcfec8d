"""Tiles of the attention kernels: as large as no register spills on sm_80, 90 and 100."""

from __future__ import annotations

from typing import NamedTuple

import torch

MAX_HEAD_DIM = 256
_REGISTERS_OF_A_PROCESSOR = 65536


class Tiles(NamedTuple):
    """Query rows and keys of a tile of scores, and what a program is made of.

    max_registers of a thread are given where the compiler, left alone, would spill a few to get by
    with half of them.
    """

    rows: int
    keys: int
    num_warps: int
    max_registers: int | None = None
    num_stages: int = 2


# By padded head dim. float32 is multiplied without tensor cores, with both factors in registers.
_FLOAT = {
    "forward": {
        16: Tiles(32, 32, 4),
        32: Tiles(32, 32, 8),
        64: Tiles(32, 32, 4),
        128: Tiles(32, 16, 8),
        256: Tiles(16, 16, 8),
    },
    "rows": {
        16: Tiles(32, 32, 4),
        32: Tiles(32, 32, 4, 255),
        64: Tiles(32, 16, 4),
        128: Tiles(16, 16, 8, 255),
        256: Tiles(16, 16, 8, 255),
    },
    "keys": {
        16: Tiles(32, 32, 4),
        32: Tiles(16, 32, 8),
        64: Tiles(16, 16, 4),
        128: Tiles(16, 16, 16, 128, num_stages=1),
        256: Tiles(16, 16, 8, num_stages=1),
    },
}
_HALF = {
    "forward": {
        16: Tiles(64, 64, 4),
        32: Tiles(64, 64, 4),
        64: Tiles(64, 32, 8),
        128: Tiles(32, 32, 8),
        256: Tiles(32, 16, 8),
    },
    "rows": {
        16: Tiles(64, 64, 8),
        32: Tiles(64, 64, 8),
        64: Tiles(64, 64, 8),
        128: Tiles(64, 32, 8),
        256: Tiles(32, 16, 8),
    },
    "keys": {
        16: Tiles(64, 64, 8),
        32: Tiles(64, 64, 8),
        64: Tiles(32, 32, 4),
        128: Tiles(32, 32, 8),
        256: Tiles(16, 16, 8),
    },
}


def padded_size(dim: int) -> int:
    """A head dim as products take it: a power of 2, at least 16. Padding is in registers only."""
    return max(16, 1 << (dim - 1).bit_length()) if dim else 16


def tiles(kind: str, size: int, dtype: torch.dtype, has_bias: bool) -> Tiles:
    """Of the kernel ``forward``, ``rows`` or ``keys`` at a padded head dim of ``size``."""
    found = (_FLOAT if dtype == torch.float32 else _HALF)[kind][size]
    if not has_bias:
        return found
    # A bias takes registers for its addresses; in half precision none are left to read ahead.
    most = 32 if size * dtype.itemsize <= 128 else 16
    warps = max(8, found.num_warps)
    registers = min(255, _REGISTERS_OF_A_PROCESSOR // (32 * warps))
    stages = found.num_stages if dtype == torch.float32 else 1
    return Tiles(min(found.rows, most), min(found.keys, most), warps, registers, stages)
