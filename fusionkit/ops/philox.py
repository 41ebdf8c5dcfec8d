"""Dropout masks from a counter-based generator: one seed, one mask, on every backend and device.

Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 4). The
key is the seed (low 32 bits, high 32 bits), the counter is (column // 4, row, head, batch), and
column c takes word c % 4. No state, so any part of the mask can be made anew, in any order.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_MASK = 0xFFFFFFFF


def keep_mask(
    seed: int | Tensor, shape: tuple[int, int, int, int], p: float, device: torch.device | str
) -> Tensor:
    """Which elements dropout keeps: those whose random word is at least ``floor(p * 2**32)``.

    Args:
        seed: an int in [-2**63, 2**63), or a 0-d int64 tensor on any device.
        shape: (B, H, R, C): batch, heads, rows, columns.
        p: probability in [0, 1) that an element is dropped.
        device: of the result.

    Returns:
        (B, H, R, C) bool, True where the element is kept.

    >>> mask = keep_mask(7, (1, 1, 100, 100), 0.25, "cpu")
    >>> 0.74 < mask.float().mean().item() < 0.76
    True
    """
    batch, heads, rows, columns = shape

    def axis(size: int, *trailing: int) -> Tensor:
        return torch.arange(size, dtype=torch.int64, device=device).view(size, *trailing)

    counter = (
        axis((columns + 3) // 4),
        axis(rows, 1),
        axis(heads, 1, 1),
        axis(batch, 1, 1, 1),
    )
    if isinstance(seed, Tensor):
        seed = seed.to(device)
    words = philox_4x32((seed & _MASK, (seed >> 32) & _MASK), counter)
    random = torch.stack(words, dim=-1).flatten(-2)[..., :columns]
    return random >= math.floor(p * 2**32)


def philox_4x32(
    key: tuple[int | Tensor, int | Tensor], counter: tuple[Tensor, Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Four random words for every counter.

    Args:
        key: two words, each in [0, 2**32), an int or a 0-d int64 tensor.
        counter: four int64 tensors of words, each in [0, 2**32), that broadcast together.

    Returns:
        Four int64 tensors of words in [0, 2**32), of the counters' common shape.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _multiply(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a product of 32-bit words, within the range of int64."""
    upper = word * (factor >> 16)
    lower = word * (factor & 0xFFFF)
    high = (upper + (lower >> 16)) >> 16
    low = (((upper & 0xFFFF) << 16) + lower) & _MASK
    return high, low
