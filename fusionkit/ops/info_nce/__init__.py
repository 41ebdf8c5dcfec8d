"""InfoNCE of inner products: how well each query is told which of N keys is its own.

``logsumexp_j s_ij - s_ii`` with ``s_ij`` the scaled inner product of query i and key j (van den
Oord et al. 2018, "Representation learning with contrastive predictive coding").
`reference.run_reference` defines it; on a GPU no (N, N) tensor is kept at any time.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fusionkit.errors import ConfigError, DataError
from fusionkit.ops.arguments import is_autocasting
from fusionkit.ops.backends import Backend, choose, register_backend
from fusionkit.ops.info_nce.reference import reference_reasons, run_reference
from fusionkit.ops.info_nce.triton import info_nce_reasons, run_triton
from fusionkit.ops.triton_runtime import triton_absence

__all__ = ["info_nce"]

register_backend(
    Backend(
        op="info_nce",
        name="reference",
        run=run_reference,
        not_supported_reasons=reference_reasons,
        priority=0,
        summary="plain PyTorch; takes everything",
    )
)
register_backend(
    Backend(
        op="info_nce",
        name="triton",
        run=run_triton,
        not_supported_reasons=info_nce_reasons,
        priority=20,
        summary="Triton kernel, scores never in memory; not measured on a device yet",
        unavailable=triton_absence(),
    )
)


def info_nce(queries: Tensor, keys: Tensor, *, scale: float = 1.0) -> Tensor:
    """The InfoNCE loss of every query in nats: ``logsumexp_j s_ij - s_ii``.

    ``s_ij = scale * <queries[i], keys[j]>``. Each loss is at least 0, and log N where all scores
    are equal; ``log N`` less their mean is a lower bound of the mutual information. For cosines,
    give vectors of length 1; for a learnt temperature, multiply the queries by it.

    Args:
        queries: (N, D), floating point, finite. Any strides, as for the keys.
        keys: (N, D), of the same dtype and device; the i-th belongs to the i-th query. Under
            autocast the dtypes may differ; all is computed in float32 at least.
        scale: finite number that the inner products are multiplied by.

    Returns:
        (N,), in the queries' dtype, differentiable any number of times.

    Raises:
        DataError: a shape, dtype or device does not fit.
        ConfigError: ``scale`` is not finite.

    >>> info_nce(torch.eye(2), torch.zeros(2, 2)).exp()
    tensor([2., 2.])
    """
    if not math.isfinite(scale):
        raise ConfigError(f"scale must be finite, got {scale}")
    autocasting = is_autocasting(queries)
    _check(queries, keys, one_dtype=not autocasting)
    if autocasting:
        dtype = torch.promote_types(torch.promote_types(queries.dtype, keys.dtype), torch.float32)
        queries, keys = queries.to(dtype), keys.to(dtype)
    backend = choose("info_nce", queries, keys, scale=scale)
    if autocasting:
        # The scores are large numbers whose differences count.
        with torch.autocast(queries.device.type, enabled=False):
            losses: Tensor = backend.run(queries, keys, scale=scale)
        return losses
    losses = backend.run(queries, keys, scale=scale)
    return losses


def _check(queries: Tensor, keys: Tensor, one_dtype: bool) -> None:
    if queries.dim() != 2 or queries.shape != keys.shape:
        raise DataError(
            "queries and keys must both be (N, D), "
            f"got {tuple(queries.shape)} and {tuple(keys.shape)}"
        )
    for name, vectors in (("queries", queries), ("keys", keys)):
        if not vectors.dtype.is_floating_point:
            raise DataError(f"{name} must be floating point, got {vectors.dtype}; convert them")
    if one_dtype and keys.dtype != queries.dtype:
        raise DataError(f"keys are {keys.dtype} and queries {queries.dtype}; give both one dtype")
    if keys.device != queries.device:
        raise DataError(f"keys are on {keys.device} and queries on {queries.device}; move one")
