"""Several cross-attentions in one call of the compiled CPU kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, as_tensor
from fusionkit.ops.cross_attention.cpu import cpu_reasons as single_reasons
from fusionkit.ops.cross_attention_pairs.autograd import CrossAttentionPairs
from fusionkit.ops.cross_attention_pairs.pair import (
    AttentionPair,
    lengths_of_all,
    reasons_of_each,
)


def run_cpu(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[Tensor]:
    """Takes the checked arguments of `cross_attention_pairs`, as far as `cpu_reasons` is empty."""
    scales = [1.0 / math.sqrt(p.query.shape[3]) if scale is None else scale for p in pairs]
    seeds = [] if dropout_p == 0.0 else [as_tensor(p.seed) for p in pairs]
    key_lengths = lengths_of_all([p.key_lengths for p in pairs], [p.key for p in pairs])
    query_lengths = lengths_of_all([p.query_lengths for p in pairs], [p.query for p in pairs])
    tensors = [
        *(p.query.float() for p in pairs),
        *(p.key.float() for p in pairs),
        *(p.value.float() for p in pairs),
    ]
    n = len(pairs)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        outputs = CrossAttentionPairs.apply(  # type: ignore[no-untyped-call]
            "fusionkit", key_lengths, query_lengths, scales, dropout_p, seeds, *apart(tensors)
        )
    else:
        outputs = torch.ops.fusionkit.cross_attention_pairs.default(
            tensors[:n], tensors[n : 2 * n], tensors[2 * n :], key_lengths, query_lengths, scales,
            dropout_p, seeds,
        )  # fmt: skip
    return [out.to(p.query.dtype) for out, p in zip(outputs, pairs)]


def cpu_reasons(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[str]:
    """Why the kernel cannot take these pairs, given that it is installed."""
    return reasons_of_each(pairs, dropout_p, single_reasons)
