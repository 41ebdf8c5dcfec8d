"""The gated mask in plain PyTorch: the definition that every other backend is tested against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.ops.lengths import within
from fusionkit.ops.philox import keep_mask


def run_reference(
    x: Tensor,  # (B, T, D)
    gate_logits: Sequence[Tensor],  # each (B, T, D)
    *,
    lengths: Tensor | None = None,  # (B,)
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> Tensor:
    """Takes the checked arguments of `gated_mask`; half precision is computed in float32."""
    batch, steps, size = x.shape
    dtype = x.dtype
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    x, gate_logits = x.to(compute), [gate.to(compute) for gate in gate_logits]
    if lengths is not None:
        padding = ~within(lengths, steps)[:, :, None]
        # Padding may hold NaN, and 0 * NaN is NaN: it has to go before any product.
        x = x.masked_fill(padding, 0.0)
        gate_logits = [gate.masked_fill(padding, 0.0) for gate in gate_logits]
    mask = torch.sigmoid(gate_logits[0])
    for gate in gate_logits[1:]:
        mask = mask + torch.sigmoid(gate)
    result = x * (mask / len(gate_logits))
    if dropout_p > 0.0:
        assert seed is not None
        keep = keep_mask(seed, (batch, 1, steps, size), dropout_p, x.device)[:, 0]
        result = result * keep / (1.0 - dropout_p)
    return result.to(dtype)


def reference_reasons(*args: object, **kwargs: object) -> list[str]:
    """The reference takes everything."""
    return []
