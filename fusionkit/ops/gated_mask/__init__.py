"""Top-down masking: a sequence times the mean of the sigmoids of one or more gates.

``x * mean_i sigmoid(g_i)``, the feedback mask of MMLatch (section 2, eq. 4), with the dropout of
the mask inside. `reference.run_reference` defines all of it; on the CPU a compiled kernel makes one
pass over memory instead of several.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fusionkit.errors import DataError
from fusionkit.ops.arguments import check_dropout, check_lengths, is_autocasting
from fusionkit.ops.backends import Backend, choose, register_backend
from fusionkit.ops.cuda_runtime import cuda_absence
from fusionkit.ops.extension import absence
from fusionkit.ops.gated_mask.cpu import cpu_reasons, run_cpu
from fusionkit.ops.gated_mask.cuda import gated_mask_reasons as cuda_gated_mask_reasons
from fusionkit.ops.gated_mask.cuda import run_cuda
from fusionkit.ops.gated_mask.reference import reference_reasons, run_reference
from fusionkit.ops.gated_mask.triton import gated_mask_reasons, run_triton
from fusionkit.ops.triton_runtime import triton_absence

__all__ = ["gated_mask"]

register_backend(
    Backend(
        op="gated_mask",
        name="reference",
        run=run_reference,
        not_supported_reasons=reference_reasons,
        priority=0,
        summary="plain PyTorch; takes everything",
    )
)
register_backend(
    Backend(
        op="gated_mask",
        name="cpu",
        run=run_cpu,
        not_supported_reasons=cpu_reasons,
        priority=10,
        summary="compiled kernel, float32, one pass over memory",
        unavailable=absence(),
    )
)
register_backend(
    Backend(
        op="gated_mask",
        name="triton",
        run=run_triton,
        not_supported_reasons=gated_mask_reasons,
        priority=20,
        summary="Triton kernel, one launch each way; not measured on a device yet",
        unavailable=triton_absence(),
    )
)
register_backend(
    Backend(
        op="gated_mask",
        name="cuda",
        run=run_cuda,
        not_supported_reasons=cuda_gated_mask_reasons,
        priority=30,
        summary="CUDA C++ kernel, one launch each way; not measured on a device yet",
        unavailable=cuda_absence(),
    )
)


def gated_mask(
    x: Tensor,
    gate_logits: Sequence[Tensor],
    *,
    lengths: Tensor | None = None,
    dropout_p: float = 0.0,
    seed: int | Tensor | None = None,
) -> Tensor:
    """Multiply ``x`` by the mean of the gates' sigmoids, and drop elements of the mask.

    Args:
        x: (B, T, D), floating point. Any strides, as for all tensors.
        gate_logits: one or more tensors (B, T, D), of x's dtype and device. Under autocast the
            dtypes may differ; the widest is taken.
        lengths: (B,) int64 in [0, T], valid steps of each sample (default: all). Steps at or beyond
            them give zeros and zero gradient, whatever x and the gates hold there (NaN too).
            Values out of range raise on the CPU only, and not inside `torch.compile`.
        dropout_p: probability in [0, 1) that an element is dropped; the others grow by 1/(1-p).
        seed: of the dropout mask (`fusionkit.ops.philox.keep_mask` with head 0, row t, column d),
            an int or a 0-d int64 tensor; required when ``dropout_p > 0``.

    Returns:
        (B, T, D), differentiable with respect to x and the gates; second derivatives are taken
        from the reference.

    Raises:
        DataError: a shape, dtype, device, length or the number of gates does not fit.
        ConfigError: ``dropout_p`` out of range, or no seed for it.
        BackendError: the forced backend cannot take these inputs.

    >>> gated_mask(torch.ones(1, 2, 1), [torch.zeros(1, 2, 1)], lengths=torch.tensor([1])).tolist()
    [[[0.5], [0.0]]]
    """
    if is_autocasting(x):
        dtype = x.dtype
        for gate in gate_logits:
            dtype = torch.promote_types(dtype, gate.dtype)
        x, gate_logits = x.to(dtype), [gate.to(dtype) for gate in gate_logits]
    _check_tensors(x, gate_logits)
    if lengths is not None:
        check_lengths("lengths", lengths, "x", x, x.shape[1])
    check_dropout(dropout_p, seed)
    options = {"lengths": lengths, "dropout_p": dropout_p, "seed": seed}
    backend = choose("gated_mask", x, gate_logits, **options)
    result: Tensor = backend.run(x, gate_logits, **options)
    return result


def _check_tensors(x: Tensor, gate_logits: Sequence[Tensor]) -> None:
    shape, dtype = x.shape, x.dtype
    if len(shape) != 3:
        raise DataError(f"x must be (B, T, D), got {tuple(shape)}")
    if not dtype.is_floating_point:
        raise DataError(f"x must be floating point, got {dtype}; convert it first")
    if isinstance(gate_logits, Tensor) or not gate_logits:
        got = "one tensor" if isinstance(gate_logits, Tensor) else "none"
        raise DataError(f"gate_logits must be a list of one or more tensors, got {got}")
    device = x.device
    for i, gate in enumerate(gate_logits):
        if gate.shape != shape:
            raise DataError(
                f"gate_logits[{i}] {tuple(gate.shape)} and x {tuple(shape)} differ in shape"
            )
        if gate.dtype != dtype:
            raise DataError(f"gate_logits[{i}] is {gate.dtype} and x {dtype}; give both one dtype")
        if gate.device != device:
            raise DataError(f"gate_logits[{i}] is on {gate.device} and x on {device}; move one")
