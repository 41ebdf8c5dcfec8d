"""Several cross-attentions in one call: all directed pairs of the modalities of a batch.

Each result is that of `cross_attention` with the same arguments: to the bit where the same backend
computes it, except that Triton may cut pairs of unlike head dims into other tiles. The heads of all
pairs are spread over the threads by their cost on the CPU, and share one launch on a GPU, so that
pairs of unequal lengths leave no core idle.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.errors import FusionKitError
from fusionkit.ops.arguments import is_autocasting
from fusionkit.ops.backends import Backend, choose, register_backend
from fusionkit.ops.cross_attention.validate import check_arguments
from fusionkit.ops.cross_attention_pairs.cpu import cpu_reasons, run_cpu
from fusionkit.ops.cross_attention_pairs.cuda import pairs_reasons as cuda_pairs_reasons
from fusionkit.ops.cross_attention_pairs.cuda import pairs_slower_reasons, run_cuda
from fusionkit.ops.cross_attention_pairs.pair import AttentionPair
from fusionkit.ops.cross_attention_pairs.reference import reference_reasons, run_reference
from fusionkit.ops.cross_attention_pairs.triton import pairs_reasons, run_triton
from fusionkit.ops.cuda_runtime import cuda_absence
from fusionkit.ops.extension import absence
from fusionkit.ops.triton_runtime import triton_absence

__all__ = ["AttentionPair", "cross_attention_pairs"]

register_backend(
    Backend(
        op="cross_attention_pairs",
        name="reference",
        run=run_reference,
        not_supported_reasons=reference_reasons,
        priority=0,
        summary="cross_attention one pair after the other; takes everything",
    )
)
register_backend(
    Backend(
        op="cross_attention_pairs",
        name="cpu",
        run=run_cpu,
        not_supported_reasons=cpu_reasons,
        priority=10,
        summary="compiled kernel, float32; the heads of all pairs share the threads by their cost",
        unavailable=absence(),
    )
)
register_backend(
    Backend(
        op="cross_attention_pairs",
        name="triton",
        run=run_triton,
        not_supported_reasons=pairs_reasons,
        priority=20,
        summary="Triton kernels, one launch for all pairs; not measured on a device yet",
        unavailable=triton_absence(),
        slower_reasons=pairs_slower_reasons,
    )
)
register_backend(
    Backend(
        op="cross_attention_pairs",
        name="cuda",
        run=run_cuda,
        not_supported_reasons=cuda_pairs_reasons,
        priority=40,
        summary="CUDA C++ kernels, one launch each way for all pairs; not measured on a device yet",
        unavailable=cuda_absence(),
        slower_reasons=pairs_slower_reasons,
    )
)


def cross_attention_pairs(
    pairs: Sequence[AttentionPair], *, scale: float | None = None, dropout_p: float = 0.0
) -> list[Tensor]:
    """Attend for every pair, as `cross_attention` does for one.

    Args:
        pairs: any number of `AttentionPair`, of one dtype and device. Under autocast they are cast
            to its dtype.
        scale: factor on the scores of all pairs, default 1/sqrt(D) of each.
        dropout_p: probability in [0, 1) that a weight is dropped; each pair needs a seed then.

    Returns:
        One (B, H, Tq, Dv) for each pair, differentiable.

    Raises:
        DataError: a shape, dtype, device or length does not fit; the message begins with the pair.
        ConfigError: ``dropout_p`` out of range, or a pair without a seed for it.
        BackendError: the forced backend cannot take these inputs.

    >>> x, y = torch.ones(1, 1, 2, 3), torch.ones(1, 1, 4, 3)
    >>> pairs = [AttentionPair(x, y, y), AttentionPair(y, x, x)]
    >>> [out.shape[2] for out in cross_attention_pairs(pairs)]
    [2, 4]
    """
    pairs = [_under_autocast(pair) for pair in pairs]
    for i, pair in enumerate(pairs):
        try:
            check_arguments(
                pair.query, pair.key, pair.value, pair.key_lengths, pair.query_lengths,
                dropout_p, pair.seed, None,
            )  # fmt: skip
        except FusionKitError as error:
            raise type(error)(f"pairs[{i}]: {error}") from None
    if not pairs:
        return []
    backend = choose("cross_attention_pairs", pairs, scale=scale, dropout_p=dropout_p)
    result: list[Tensor] = backend.run(pairs, scale=scale, dropout_p=dropout_p)
    return result


def _under_autocast(pair: AttentionPair) -> AttentionPair:
    query, key, value = pair[:3]
    if not is_autocasting(query) or query.dtype == torch.float64:
        return pair
    dtype = torch.get_autocast_dtype(query.device.type)
    return pair._replace(query=query.to(dtype), key=key.to(dtype), value=value.to(dtype))
