"""Every kernel that a launch can ask the compiler for, the likely trouble first.

``python triton_builds.py --every 90 | grep -v '"spills_in_loops": 0'`` names those whose loops run
out of registers. It takes a day; stopped at any time it has seen what departs least from the worst
setting.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from fusionkit.ops.cross_attention.triton_kernels import build
from fusionkit.ops.cross_attention.triton_tiles import SHORT
from fusionkit.ops.gated_mask import triton_kernels as gated_mask
from fusionkit.ops.info_nce import triton_kernels as info_nce
from fusionkit.ops.split_attention import triton_kernels as split_attention
from fusionkit.ops.triton_runtime import DTYPE_NAMES, KernelBuild, vector_of

DIMS = (256, 128, 64, 32, 16)
GRADIENTS = {
    "forward": (),
    "rows": ("grad_queries", "grad_biases"),
    "keys": ("grad_keys", "grad_values"),
}


def every() -> Iterator[KernelBuild]:
    for module in (info_nce, split_attention):
        yield from module.builds()
    yield from gated_masks()
    yield from attention()


def gated_masks() -> Iterator[KernelBuild]:
    choices = product(DTYPE_NAMES, (304, 300, 74, 35, 2), range(8, 0, -1), *((True, False),) * 3)
    for dtype, size, gates, dropout, lengths, wide in choices:
        flags = {"gates": gates, "dropout": dropout, "lengths": lengths, "wide": wide}
        yield gated_mask.build("forward", dtype, size, **flags)
        for needs in (2 ** (gates + 1) - 1, 1, 2):
            yield gated_mask.build("backward", dtype, size, needs=needs, **flags)


def attention() -> Iterator[KernelBuild]:
    """Settings by the number of choices in them that are not the first."""
    found: list[tuple[int, dict[str, Any]]] = []
    for kind, dtype in product(GRADIENTS, DTYPE_NAMES):
        vector = vector_of(DTYPE_NAMES[dtype])
        choices: dict[str, tuple[Any, ...]] = {
            "value_dim": (None, *DIMS),
            "pairs": (6, 1, 12),
            "unit": (1, None, *(2**i for i in range(1, vector.bit_length() - 1))),
            "dropout": (True, False),
            "lengths": ((), ("query_lengths",), ("key_lengths",), ("key_lengths", "query_lengths")),
            "bias": ("", dtype, "fp32" if dtype != "fp32" else "bf16"),
            "precision": ("ieee", "tf32") if dtype == "fp32" else ("ieee",),
            "longest": (SHORT + 1, SHORT) if dtype != "fp32" else (SHORT + 1,),
            "gradients": ((), *((name,) for name in GRADIENTS[kind])),
        }  # fmt: skip
        for places in product(*(range(len(options)) for options in choices.values())):
            setting = {name: choices[name][i] for name, i in zip(choices, places)}
            setting |= {"kind": kind, "dtype": dtype}
            found.append((sum(map(bool, places)), setting))
    found.sort(key=lambda one: one[0])
    for _, setting in found:
        absent = setting.pop("lengths") + setting.pop("gradients")
        bias, short = setting["bias"], setting["longest"] == SHORT
        if bias and (setting["pairs"] > 1 or short):  # pairs have none, and its tiles one size
            continue
        if ("grad_biases" in absent and not bias) or (short and setting["unit"] is not None):
            continue
        for dim in DIMS:
            if setting["value_dim"] != dim:
                yield build(dim=dim, absent=absent, **setting)
