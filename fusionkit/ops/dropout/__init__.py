"""Dropout (Srivastava et al. 2014) whose mask follows from a seed, the same on every backend.

torch draws the mask of `torch.nn.functional.dropout` on the CPU one number after the other; here
the numbers come from a counter-based generator, many at a time on all threads.
"""

from __future__ import annotations

from torch import Tensor

from fusionkit.errors import DataError
from fusionkit.ops.arguments import check_dropout
from fusionkit.ops.backends import Backend, choose, register_backend
from fusionkit.ops.dropout.cpu import cpu_reasons, run_cpu
from fusionkit.ops.dropout.reference import reference_reasons, run_reference
from fusionkit.ops.extension import absence

__all__ = ["dropout"]

register_backend(
    Backend(
        op="dropout",
        name="reference",
        run=run_reference,
        not_supported_reasons=reference_reasons,
        priority=0,
        summary="plain PyTorch; takes everything",
    )
)
register_backend(
    Backend(
        op="dropout",
        name="cpu",
        run=run_cpu,
        not_supported_reasons=cpu_reasons,
        priority=10,
        summary="compiled kernel, float32, one pass over memory",
        unavailable=absence(),
    )
)


def dropout(x: Tensor, p: float, seed: int | Tensor | None) -> Tensor:
    """Set elements of ``x`` to 0 with probability ``p`` and multiply the others by 1/(1-p).

    Args:
        x: (..., C), floating point, at least one axis.
        p: in [0, 1).
        seed: of the mask (`fusionkit.ops.philox.keep_mask` with batch and head 0, the leading axes
            flattened to rows, C columns), an int or a 0-d int64 tensor; required when ``p > 0``.

    Returns:
        The shape of x, differentiable any number of times.

    Raises:
        DataError: x has no axis or is not floating point.
        ConfigError: ``p`` out of range, or no seed for it.
        BackendError: the forced backend cannot take these inputs.

    >>> import torch
    >>> sorted(set(dropout(torch.ones(50, 4), 0.5, seed=3).flatten().tolist()))
    [0.0, 2.0]
    """
    if x.dim() == 0 or not x.dtype.is_floating_point:
        raise DataError(f"x must be floating point (..., C), got {x.dtype} {tuple(x.shape)}")
    check_dropout(p, seed)
    if p == 0.0:
        return x
    backend = choose("dropout", x, p, seed)
    result: Tensor = backend.run(x, p, seed)
    return result
