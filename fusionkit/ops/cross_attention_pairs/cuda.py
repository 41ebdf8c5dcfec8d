"""Several cross-attentions in one launch of the CUDA C++ kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, seed_on
from fusionkit.ops.cross_attention.cost import gpu_slower_reasons
from fusionkit.ops.cross_attention.cuda import attention_reasons as single_reasons
from fusionkit.ops.cross_attention_pairs.autograd import (
    CrossAttentionPairs,
    fake_backward,
    fake_forward,
)
from fusionkit.ops.cross_attention_pairs.pair import AttentionPair, lengths_of_all
from fusionkit.ops.cuda_runtime import NAMESPACE, define


def run_cuda(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[Tensor]:
    """Takes the checked arguments of `cross_attention_pairs`, as far as `pairs_reasons` is empty.

    One launch forward and one backward, for up to 12 pairs whose wider head dim is in the same of
    1..4, 5..8, 9..16, 17..32, 33..64 and 65..128; the others have launches of their own.
    """
    scales = [1.0 / math.sqrt(p.query.shape[3]) if scale is None else scale for p in pairs]
    seeds = [] if dropout_p == 0.0 else [seed_on(p.seed, p.query.device) for p in pairs]
    key_lengths = lengths_of_all([p.key_lengths for p in pairs], [p.key for p in pairs])
    query_lengths = lengths_of_all([p.query_lengths for p in pairs], [p.query for p in pairs])
    tensors = [*(p.query for p in pairs), *(p.key for p in pairs), *(p.value for p in pairs)]
    n = len(pairs)
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        outputs = CrossAttentionPairs.apply(  # type: ignore[no-untyped-call]
            NAMESPACE, key_lengths, query_lengths, scales, dropout_p, seeds, *apart(tensors)
        )
        return list(outputs)
    outputs = torch.ops.fusionkit_cuda.cross_attention_pairs.default(
        tensors[:n], tensors[n : 2 * n], tensors[2 * n :], key_lengths, query_lengths, scales,
        dropout_p, seeds,
    )  # fmt: skip
    return list(outputs[:n])


def pairs_reasons(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[str]:
    """Why the kernels cannot take these pairs, given that they are installed."""
    reasons = []
    for i, p in enumerate(pairs):
        seed = p.seed if dropout_p > 0.0 else None
        found = single_reasons(p.query, p.key, p.value, seed=seed)
        for what in ("dtype", "device"):
            here, first = getattr(p.query, what), getattr(pairs[0].query, what)
            if here != first:
                found.append(f"{what} is {here}, that of pairs[0] is {first}")
        reasons += [f"pairs[{i}]: {reason}" for reason in found]
    return reasons


def pairs_slower_reasons(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[str]:
    """Why single calls should be faster: because they are for every single pair."""
    reasons = []
    for i, p in enumerate(pairs):
        found = gpu_slower_reasons(
            p.query, p.key, p.value, key_lengths=p.key_lengths, query_lengths=p.query_lengths,
            dropout_p=dropout_p,
        )  # fmt: skip
        if not found:
            return []
        reasons += [f"pairs[{i}]: {reason}" for reason in found]
    return reasons


define(
    "cross_attention_pairs(Tensor[] query, Tensor[] key, Tensor[] value, Tensor[] key_lengths, "
    "Tensor[] query_lengths, float[] scale, float dropout_p, Tensor[] seed) -> Tensor[]",
    fake_forward,
)
define(
    "cross_attention_pairs_backward(Tensor[] grad_out, Tensor[] query, Tensor[] key, Tensor[] "
    "value, Tensor[] out, Tensor[] row_sums, Tensor[] key_lengths, Tensor[] query_lengths, "
    "float[] scale, float dropout_p, Tensor[] seed) -> Tensor[]",
    fake_backward,
)
