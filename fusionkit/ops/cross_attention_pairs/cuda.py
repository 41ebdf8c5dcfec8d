"""Several cross-attentions in one launch of the CUDA C++ kernels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fusionkit.ops.cross_attention.cost import gpu_slower_reasons
from fusionkit.ops.cross_attention.cuda import cuda_attention_reasons
from fusionkit.ops.cross_attention_pairs.autograd import (
    BACKWARD_SCHEMA,
    FORWARD_SCHEMA,
    fake_backward,
    fake_forward,
    run_on_device,
)
from fusionkit.ops.cross_attention_pairs.pair import (
    AttentionPair,
    reasons_of_each,
    unlike_reasons,
)
from fusionkit.ops.cuda_runtime import NAMESPACE, define


def run_cuda(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[Tensor]:
    """Takes the checked arguments of `cross_attention_pairs`, as far as `pairs_reasons` is empty.

    One launch forward and one backward, for up to 12 pairs whose wider head dims are padded, in
    registers, to the same of 4, 6, 8, 12, 16, 32, 64 and 128; the others have their own launches.
    """
    return run_on_device(NAMESPACE, pairs, scale, dropout_p)


def pairs_reasons(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[str]:
    """Why the kernels cannot take these pairs, given that they are installed."""
    return reasons_of_each(pairs, dropout_p, cuda_attention_reasons) + unlike_reasons(pairs)


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


define(FORWARD_SCHEMA, fake_forward)
define(BACKWARD_SCHEMA, fake_backward)
