"""Every attention kernel as the package launches it, to be compiled ahead of time."""

from __future__ import annotations

import torch

from fusionkit.ops.cross_attention.triton_backward import (
    attention_backward_keys,
    attention_backward_rows,
)
from fusionkit.ops.cross_attention.triton_forward import attention_forward
from fusionkit.ops.cross_attention.triton_parts import TENSORS
from fusionkit.ops.cross_attention.triton_tiles import tiles
from fusionkit.ops.triton_runtime import KernelBuild

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Kernel, the tensors whose strides it takes, and the float32 ones.
_KERNELS = {
    "forward": (attention_forward, ("queries", "keys", "values", "outs"), ("row_sums",)),
    "rows": (
        attention_backward_rows,
        ("queries", "keys", "values", "outs", "grad_outs", "grad_queries"),
        ("row_sums", "deltas", "grad_biases"),
    ),
    "keys": (
        attention_backward_keys,
        ("queries", "keys", "values", "grad_outs", "grad_keys", "grad_values"),
        ("row_sums", "deltas"),
    ),
}


def build(
    kind: str, dtype: str, size: int, *, pairs: int = 1, bias: bool = False, dropout: bool = True,
    lengths: bool = True, aligned: bool = True, precision: str = "ieee",
) -> KernelBuild:  # fmt: skip
    """One kernel at a head dim of ``size``, with everything that the flags say.

    aligned: whether dims and strides are multiples of 16 bytes.
    """
    kernel, strided, plain = _KERNELS[kind]
    pointers, several = (f"*{dtype}",) * pairs, ("*i64",) * pairs
    signature = {
        **dict.fromkeys(strided, pointers),
        **dict.fromkeys(plain, ("*fp32",) * pairs),
        "biases": pointers, "key_lengths": several, "query_lengths": several, "seeds": several,
        "scales": ("fp32",) * pairs, "threshold": "i64", "factor": "fp32",
        "numbers": (("i32",) * (TENSORS.value + 3 * len(strided)),) * pairs,
    }  # fmt: skip
    absent = ["biases", "grad_biases"] * (not bias) + ["seeds"] * (not dropout)
    absent += ["key_lengths", "query_lengths"] * (not lengths)
    tile = tiles(kind, size, _DTYPES[dtype], bias)
    unit = 16 // _DTYPES[dtype].itemsize
    constants = {
        "ROWS": tile.rows, "KEY_STEPS": tile.keys, "SIZE": size, "VALUE_SIZE": size,
        "UNIT": unit if aligned else 1, "PRECISION": precision,
        **{name: None for name in absent if name in signature},
    }  # fmt: skip
    flags = {"bias": bias, "dropout": dropout, "unaligned": not aligned, "no lengths": not lengths}
    name = ", ".join(
        [f"attention {kind}", dtype, f"head dim {size}", f"{pairs} pairs", precision]
        + [flag for flag, on in flags.items() if on]
    )
    signature = {n: kinds for n, kinds in signature.items() if n not in constants}
    return KernelBuild(
        name, kernel, signature, constants, tile.num_warps, tile.num_stages, tile.max_registers
    )


def builds() -> list[KernelBuild]:
    """Every tile in float32 and half precision; for one of them each, what else is compiled."""
    found = []
    for kind in _KERNELS:
        for dtype in ("fp32", "fp16"):
            # The widest without vector reads: they hold most registers then.
            found += [build(kind, dtype, n, aligned=n < 128) for n in (16, 32, 64, 128, 256)]
        found += [
            build(kind, "fp32", 64, bias=True),
            build(kind, "fp32", 32, precision="tf32"),
            build(kind, "bf16", 16, pairs=12, aligned=False, dropout=False, lengths=False),
        ]
    return found
