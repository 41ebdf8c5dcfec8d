"""Every attention kernel as the package launches it, to be compiled ahead of time."""

from __future__ import annotations

from fusionkit.ops.cross_attention.triton_backward import (
    attention_backward_keys,
    attention_backward_rows,
)
from fusionkit.ops.cross_attention.triton_forward import attention_forward
from fusionkit.ops.cross_attention.triton_parts import TENSORS
from fusionkit.ops.cross_attention.triton_tiles import SHORT, padded_size, tiles
from fusionkit.ops.triton_runtime import DTYPE_NAMES, KernelBuild, vector_of

LENGTHS = ("key_lengths", "query_lengths")
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
    kind: str, dtype: str, dim: int, *, value_dim: int | None = None, pairs: int = 1,
    bias: str = "", dropout: bool = True, unit: int | None = None,
    precision: str = "ieee", longest: int = 500, absent: tuple[str, ...] = (),
) -> KernelBuild:  # fmt: skip
    """One kernel for head dims of ``dim``, with everything that the flags say.

    Args:
        kind: forward, rows or keys. value_dim: of the values, if another. bias: its dtype.
        unit: of dims and strides; a vector of 16 bytes if None. longest: of the sequences.
        absent: tensors that are None: lengths, or gradients that nobody asks for.
    """
    kernel, strided, plain = _KERNELS[kind]
    pointers, several = (f"*{dtype}",) * pairs, ("*i64",) * pairs
    signature = {
        **dict.fromkeys(strided, pointers),
        **dict.fromkeys(plain, ("*fp32",) * pairs),
        "biases": (f"*{bias}",) * pairs,
        "key_lengths": several, "query_lengths": several, "seeds": several,
        "scales": ("fp32",) * pairs, "threshold": "i64", "factor": "fp32",
        "numbers": (("i32",) * (TENSORS.value + 3 * len(strided)),) * pairs,
    }  # fmt: skip
    without = {*absent, *["biases", "grad_biases"] * (not bias), *["seeds"] * (not dropout)}
    size, value_size = padded_size(dim), padded_size(dim if value_dim is None else value_dim)
    torch_dtype = DTYPE_NAMES[dtype]
    vector = vector_of(torch_dtype)
    tile = tiles(
        kind, max(size, value_size), torch_dtype,
        has_bias=bool(bias), aligned=unit in (None, vector), longest=longest,
    )  # fmt: skip
    constants = {
        "ROWS": tile.rows, "KEY_STEPS": tile.keys, "SIZE": size, "VALUE_SIZE": value_size,
        "UNIT": unit or vector, "PRECISION": precision,
        **{name: None for name in without if name in signature},
    }  # fmt: skip
    flags = {
        f"values of {value_dim}": value_dim is not None, f"bias in {bias}": bias,
        "dropout": dropout, f"unit {unit}": unit,
        f"up to {longest} steps": longest <= SHORT,
        f"without {' and '.join(absent)}": absent,
    }  # fmt: skip
    name = ", ".join(
        [f"attention {kind}", dtype, f"head dim {dim}", f"{pairs} pairs", precision]
        + [flag for flag, on in flags.items() if on]
    )
    signature = {n: kinds for n, kinds in signature.items() if n not in constants}
    return KernelBuild(name, kernel, signature, constants, tile.num_warps, tile.num_stages)


def builds() -> list[KernelBuild]:
    """The head dims of the field without vector reads, which takes most registers; wide and half
    precise ones with them; for one of them each, what else is compiled.
    """
    found = []
    for kind in _KERNELS:
        found += [build(kind, "fp32", n, unit=1, pairs=6) for n in (5, 25)]
        found += [build(kind, "fp32", n, unit=1) for n in (64, 100)]
        found += [build(kind, "fp32", 256), build(kind, "fp32", 100, unit=1, bias="fp32")]
        found += [build(kind, "fp16", 10, unit=1, pairs=6)]
        found += [build(kind, "fp16", n, unit=1) for n in (30, 50, 100, 256)]
        found += [build(kind, "fp16", n) for n in (64, 128)]
        found += [
            build(kind, "fp16", 64, pairs=12, longest=SHORT),
            build(kind, "fp32", 32, precision="tf32"),
            build(kind, "bf16", 16, pairs=12, unit=1, dropout=False, absent=LENGTHS),
        ]
    return found
