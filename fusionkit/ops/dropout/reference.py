"""Dropout in plain PyTorch: the definition that the kernel is tested against."""

from __future__ import annotations

from torch import Tensor

from fusionkit.ops.philox import keep_mask


def run_reference(x: Tensor, p: float, seed: int | Tensor) -> Tensor:
    """Takes the checked arguments of `dropout`."""
    columns = x.shape[-1]
    rows = x.numel() // columns if columns else 0
    keep = keep_mask(seed, (1, 1, rows, columns), p, x.device).view(x.shape)
    return (x / (1.0 - p)).masked_fill(~keep, 0.0)


def reference_reasons(x: Tensor, p: float, seed: int | Tensor) -> list[str]:
    """The reference takes everything."""
    return []
