"""Tiles of the attention kernels: as large as no loop spills registers on sm_80, 90 and 100."""

from __future__ import annotations

from typing import NamedTuple

import torch

MAX_HEAD_DIM = 256
SHORT = 64
"""Steps; a tile of twice as many would be half empty."""


class Tiles(NamedTuple):
    """Query rows and keys of a tile of scores, and what a program is made of.

    The compiler is left to choose the registers of a thread: with a limit given, were it all that
    there are, it plans for as many and spills.
    """

    rows: int
    keys: int
    num_warps: int
    num_stages: int = 2


# By padded head dim. float32 is multiplied without tensor cores, with both factors in registers.
_FLOAT = {
    "forward": {
        16: Tiles(32, 32, 4),
        32: Tiles(32, 32, 8),
        64: Tiles(32, 32, 4),
        128: Tiles(32, 16, 8),
        256: Tiles(16, 16, 16),
    },
    "rows": {
        16: Tiles(32, 32, 4),
        32: Tiles(32, 16, 4),
        64: Tiles(32, 16, 4),
        128: Tiles(16, 16, 8),
        256: Tiles(16, 16, 16),
    },
    "keys": {
        16: Tiles(32, 32, 4),
        32: Tiles(16, 32, 8),
        64: Tiles(16, 16, 4),
        128: Tiles(16, 16, 8),
        256: Tiles(16, 16, 8, num_stages=3),
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
        16: Tiles(64, 64, 4),
        32: Tiles(64, 64, 8),
        64: Tiles(64, 32, 8),
        128: Tiles(64, 32, 8),
        256: Tiles(16, 16, 8),
    },
    "keys": {
        16: Tiles(64, 64, 8),
        32: Tiles(32, 64, 8),
        64: Tiles(32, 32, 4),
        128: Tiles(32, 32, 8),
        256: Tiles(16, 16, 8),
    },
}
# Where a thread reads vectors it keeps few addresses and masks, which leaves registers for larger
# tiles. With 64 rows (of the keys kernel: keys) to 4 warps, sm_90 multiplies by wgmma.
_HALF_ALIGNED = {
    "forward": {
        16: Tiles(64, 64, 4),
        32: Tiles(64, 64, 4),
        64: Tiles(64, 64, 4, num_stages=3),
        128: Tiles(64, 32, 4),
        256: Tiles(32, 16, 8),
    },
    "rows": {
        16: Tiles(64, 64, 4),
        32: Tiles(64, 64, 4),
        64: Tiles(64, 64, 8),
        128: Tiles(64, 32, 8),
        256: Tiles(32, 16, 8),
    },
    "keys": {
        16: Tiles(64, 64, 4),
        32: Tiles(64, 64, 8),
        64: Tiles(32, 64, 4),
        128: Tiles(32, 32, 8),
        256: Tiles(16, 16, 8),
    },
}
_HALF_LONG = {
    "forward": {
        16: Tiles(128, 64, 8),
        32: Tiles(128, 64, 8),
        64: Tiles(128, 64, 8, num_stages=3),
    },
    "rows": {16: Tiles(128, 64, 8), 32: Tiles(128, 64, 8), 64: Tiles(128, 32, 8)},
    "keys": {16: Tiles(64, 128, 8), 32: Tiles(64, 128, 8)},
}
"""For sequences that fill them."""


def padded_size(dim: int) -> int:
    """A head dim as products take it: a power of 2, at least 16. Padding is in registers only."""
    return max(16, 1 << (dim - 1).bit_length()) if dim else 16


def tiles(
    kind: str, size: int, dtype: torch.dtype, *, has_bias: bool, aligned: bool, longest: int
) -> Tiles:
    """Of the kernel ``forward``, ``rows`` or ``keys`` at a padded head dim of ``size``.

    Args:
        aligned: whether a thread reads vectors of 16 bytes.
        longest: steps of the longest sequence that is cut into tiles.
    """
    if has_bias:
        return _with_bias(_table(dtype)[kind][size], size, dtype)
    if dtype == torch.float32 or not aligned:
        return _table(dtype)[kind][size]
    short = _HALF_ALIGNED[kind][size]
    return _HALF_LONG[kind].get(size, short) if longest > SHORT else short


def _table(dtype: torch.dtype) -> dict[str, dict[int, Tiles]]:
    return _FLOAT if dtype == torch.float32 else _HALF


def _with_bias(found: Tiles, size: int, dtype: torch.dtype) -> Tiles:
    """A bias takes registers for its addresses; in half precision none are left to read ahead."""
    most = 32 if size * dtype.itemsize <= 128 else 16
    stages = 2 if dtype == torch.float32 else 1
    return Tiles(min(found.rows, most), min(found.keys, most), 8, stages)
