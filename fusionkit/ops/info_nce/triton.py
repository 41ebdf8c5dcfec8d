"""InfoNCE on Triton kernels (`triton_kernels`)."""

from __future__ import annotations

import torch
from torch import Tensor

from fusionkit.ops.arguments import apart, transform_reasons
from fusionkit.ops.info_nce.autograd import InfoNCE, fake_backward, fake_forward
from fusionkit.ops.triton_runtime import NAMESPACE, define, on_device_of, triton_reasons


def run_triton(
    queries: Tensor,  # (N, D)
    keys: Tensor,  # (N, D)
    *,
    scale: float = 1.0,
) -> Tensor:  # (N,)
    """Takes the checked arguments of `info_nce`, as far as `info_nce_reasons` is empty.

    Half precision is computed in float32 and rounded once at the end.
    """
    if torch.is_grad_enabled() and (queries.requires_grad or keys.requires_grad):
        queries, keys = apart([queries, keys])
        result: Tensor = InfoNCE.apply(  # type: ignore[no-untyped-call]
            NAMESPACE, queries, keys, scale
        )
        return result
    result, _ = torch.ops.fusionkit_triton.info_nce.default(queries, keys, scale)
    return result


def info_nce_reasons(queries: Tensor, keys: Tensor, *, scale: float = 1.0) -> list[str]:
    """Why the kernels cannot take these inputs, given that Triton is installed."""
    return transform_reasons() + triton_reasons("queries", queries, None)


def _forward(queries: Tensor, keys: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    from fusionkit.ops.info_nce.triton_kernels import NUM_WARPS, forward_tiles, info_nce_forward

    losses, normalisers = fake_forward(queries, keys, scale)
    count, size = queries.shape
    if not count:
        return losses, normalisers
    grid, constants = forward_tiles(count, size, queries.dtype)
    with on_device_of(queries):
        info_nce_forward[grid](
            queries.contiguous(), keys.contiguous(), losses, normalisers,
            count, size // constants["UNIT"], scale,
            num_warps=NUM_WARPS, **constants,
        )  # fmt: skip
    return losses, normalisers


def _backward(
    grad_out: Tensor, queries: Tensor, keys: Tensor, normalisers: Tensor, scale: float, needs: int
) -> list[Tensor]:
    from fusionkit.ops.info_nce.triton_kernels import NUM_WARPS, backward_tiles, info_nce_backward

    found = fake_backward(grad_out, queries, keys, normalisers, scale, needs)
    if not queries.numel():
        return found
    queries, keys, grad_out = queries.contiguous(), keys.contiguous(), grad_out.contiguous()
    gradients = iter(found)
    count, size = queries.shape
    grid, constants = backward_tiles(count, size, queries.dtype)
    for of_keys in (False, True):
        if needs >> of_keys & 1:
            mine, others = (keys, queries) if of_keys else (queries, keys)
            with on_device_of(queries):
                info_nce_backward[grid](
                    grad_out, mine, others, normalisers, next(gradients),
                    count, size // constants["UNIT"], scale,
                    OF_KEYS=of_keys, num_warps=NUM_WARPS, **constants,
                )  # fmt: skip
    return found


define("info_nce(Tensor queries, Tensor keys, float scale) -> (Tensor, Tensor)",
       _forward, fake_forward)  # fmt: skip
define(
    "info_nce_backward(Tensor grad_out, Tensor queries, Tensor keys, Tensor normalisers,"
    " float scale, int needs) -> Tensor[]",
    _backward,
    fake_backward,
)
