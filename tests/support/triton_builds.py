"""Compiles Triton kernels for devices that need not be there: ``python triton_builds.py 80 90``.

Prints one JSON object a line. Runs in a process of its own: with ``TRITON_INTERPRET=1`` kernels
cannot be compiled.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fusionkit.ops.triton_runtime import KernelBuild

OPERATORS = ("cross_attention", "gated_mask", "info_nce", "split_attention")


def compiled(build: KernelBuild, capability: int) -> dict[str, Any]:
    """What a kernel takes: registers, and bytes: stack, shared memory, read and written."""
    constants = dict.fromkeys(build.constants, "constexpr")
    # As the JIT finds torch's allocations: addresses are multiples of 16.
    names = build.kernel.arg_names
    aligned = {}
    for name, kind in build.signature.items():
        several = kind if isinstance(kind, tuple) else (kind,)
        for i, one in enumerate(several):
            if isinstance(one, str) and one.startswith("*"):
                path = (names.index(name), i) if several is kind else (names.index(name),)
                aligned[path] = [["tt.divisibility", 16]]
    source = ASTSource(
        fn=build.kernel,
        signature={name: {**build.signature, **constants}[name] for name in names},
        constexprs={(names.index(k),): v for k, v in build.constants.items()},
        attrs=aligned,
    )
    target = GPUTarget("cuda", capability, 32)
    options = {"num_warps": build.num_warps, "num_stages": build.num_stages}
    found = triton.compile(source, target=target, options=options)
    return {
        "kernel": build.name, "sm": capability, "shared": found.metadata.shared,
        **usage(found.asm["cubin"]), **vectors(found.asm["ptx"]),
    }  # fmt: skip


def usage(cubin: bytes) -> dict[str, int]:
    """Registers of a thread and bytes of its stack; a stack is where spilled registers go.

    The compiler spills a few numbers that it needs once, after a loop, to get by with fewer
    registers. That costs nothing, so it counts apart how often a loop goes to the stack.
    """
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()

        def told(option: str) -> str:
            command = [str(tool), option, file.name]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        text = told("-res-usage")
        found = re.search(r"REG:(\d+) STACK:(\d+)", text)
        assert found is not None, text
        registers, stack = int(found[1]), int(found[2])
        spills = spills_in_loops(told("-sass")) if stack else 0
    return {"registers": registers, "stack": stack, "spills_in_loops": spills}


def spills_in_loops(sass: str) -> int:
    """Instructions that read or write the stack between a jump back and where it goes."""
    code = [(int(at, 16), what) for at, what in re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?);", sass)]
    assert code, sass[:1000]
    jumps = [(int(to[1], 16), at) for at, what in code if (to := re.search(r"BRA.* 0x(\w+)", what))]
    stack = [at for at, what in code if re.search(r"\b(LDL|STL)\b", what)]
    return sum(any(start <= at <= end for start, end in jumps) for at in stack)


def vectors(ptx: str) -> dict[str, int]:
    """Bytes that a thread loads from global memory and stores there several numbers at once."""
    found = re.findall(r"\b(ld|st)\.global\S*?\.v(\d)\.b(\d+)", ptx)
    return {
        name: sum(int(count) * int(bits) // 8 for which, count, bits in found if which == kind)
        for kind, name in (("ld", "loaded"), ("st", "stored"))
    }


def default() -> Iterator[KernelBuild]:
    for operator in OPERATORS:
        yield from import_module(f"fusionkit.ops.{operator}.triton_kernels").builds()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capabilities", type=int, nargs="+")
    parser.add_argument("--every", action="store_true", help="see triton_sweep")
    given = parser.parse_args()
    for build in import_module("triton_sweep").every() if given.every else default():
        for capability in given.capabilities:
            print(json.dumps(compiled(build, capability)), flush=True)
