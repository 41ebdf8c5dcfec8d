"""Sinusoidal positions as MulT adds them."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Positions = Literal["step", "released"]


def sinusoidal_table(steps: int, size: int, *, device: torch.device | str | None = None) -> Tensor:
    """The codes of positions 1 to ``steps``: (steps, size) float32, in [-1, 1].

    The first half of the channels holds sines, the second cosines, of ``position * f_i`` with
    ``f_i = exp(-i ln(10000) / (half - 1))``, as fairseq and the released MulT have it (Vaswani et
    al. 2017, section 3.5, interleave them and divide by half). An odd last channel is 0; a half of
    one channel has the frequency 1.
    """
    half = size // 2
    # The order of the operations is the released code's: another one differs in the last bit.
    rate = -(math.log(10000.0) / max(half - 1, 1))
    channel = torch.arange(half, device=device, dtype=torch.float32)
    position = torch.arange(1, steps + 1, device=device, dtype=torch.float32)
    angle = position[:, None] * torch.exp(channel * rate)
    table = torch.cat([angle.sin(), angle.cos()], dim=1)
    return torch.nn.functional.pad(table, (0, size - 2 * half))


Tables = dict[tuple[int, int, torch.dtype], Tensor]
"""Codes by steps, size and dtype, for sequences on one device."""


def positions_for(x: Tensor, how: Positions = "step", tables: Tables | None = None) -> Tensor:
    """The codes to add to the sequences x (B, T, size), in its dtype.

    Args:
        how: ``step``: step t has position t + 1. ``released``: the same, but a step whose channel 0
            is exactly 0 gets no position (zeros). The released MulT hands that channel to a code
            that expects word numbers and takes 0 for padding.
        tables: those that were made before, for sequences of the same sizes; new ones are added.

    Returns:
        (T, size), or (B, T, size) for ``released``.
    """
    tables = {} if tables is None else tables
    _, steps, size = x.shape
    like = (steps, size, x.dtype)
    if like not in tables:
        tables[like] = sinusoidal_table(steps, size, device=x.device).to(x.dtype)
    table = tables[like]
    if how == "step":
        return table
    return torch.where((x[..., :1] != 0), table, table.new_zeros(()))
