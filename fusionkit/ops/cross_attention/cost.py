"""Where SDPA should be faster than our kernels for GPUs: estimates, not measured yet.

The CUDA kernels keep short sequences in shared memory, compute valid keys and rows only, and need
one launch for everything. PyTorch's fused attention copies tiles asynchronously while it
multiplies, which pays where there are many tiles and much to multiply; it has neither lengths nor
dropout with a seed, and other operations around it make up for lengths.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fusionkit.ops.cross_attention.sdpa import sdpa_reasons

SDPA_STEPS = 512
"""From how many steps, of queries and of keys, half precision should be faster on SDPA."""

SDPA_HEAD_DIM = 32
"""From which head dim on."""


def gpu_slower_reasons(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    scale: float | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
    bias: Tensor | None = None,
    return_weights: bool = False,
) -> list[str]:
    """Why SDPA should be faster on a CUDA device; empty where it takes the inputs less well."""
    if query.dtype not in (torch.float16, torch.bfloat16):
        return []
    if key_lengths is not None or query_lengths is not None or bias is not None:
        return []
    steps = min(query.shape[2], key.shape[2])
    if steps < SDPA_STEPS or query.shape[3] < SDPA_HEAD_DIM:
        return []
    if sdpa_reasons(query, key, value, dropout_p=dropout_p, return_weights=return_weights):
        return []
    return [
        f"sdpa should be faster in half precision from head dim {SDPA_HEAD_DIM} and {SDPA_STEPS} "
        "steps on, without lengths and bias (an estimate, not measured)"
    ]
