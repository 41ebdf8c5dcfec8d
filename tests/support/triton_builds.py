"""Compiles Triton kernels for devices that need not be there: ``python triton_builds.py 80 90``.

Prints one JSON object a line. Runs in a process of its own: with ``TRITON_INTERPRET=1`` kernels
cannot be compiled.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fusionkit.ops.triton_runtime import KernelBuild

OPERATORS = ("cross_attention", "gated_mask", "info_nce", "split_attention")


def compiled(build: KernelBuild, capability: int) -> dict[str, Any]:
    """Registers, stack and shared memory in bytes of one kernel."""
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
    options = {
        "num_warps": build.num_warps, "num_stages": build.num_stages,
        "maxnreg": build.max_registers,
    }  # fmt: skip
    found = triton.compile(source, target=target, options=options)
    return {
        "kernel": build.name, "sm": capability, "shared": found.metadata.shared,
        **usage(found.asm["cubin"]),
    }  # fmt: skip


def usage(cubin: bytes) -> dict[str, int]:
    """Registers of a thread and bytes of its stack; a stack is where spilled registers go."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    assert found is not None, text
    return {"registers": int(found[1]), "stack": int(found[2])}


if __name__ == "__main__":
    for operator in OPERATORS:
        kernels = import_module(f"fusionkit.ops.{operator}.triton_kernels")
        for build in kernels.builds():
            for capability in map(int, sys.argv[1:]):
                print(json.dumps(compiled(build, capability)), flush=True)
