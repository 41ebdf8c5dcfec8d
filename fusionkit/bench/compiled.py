"""Contenders under `torch.compile`, with proof that compiled code is what runs.

Dynamo recompiles when a guard fails (another number of threads, another grad mode), and after
eight times it quietly runs the plain function. So the compiler forgets everything before each
measurement, a graph break is an error, and the second call must not compile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from fusionkit.bench.case import NotAvailableError, Task


def forget_compiled() -> None:
    """Drop everything that was compiled; call it before the contenders of a measurement."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def compile_whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as one graph for fixed shapes, compiled at its first call."""
    import torch._inductor.config

    # Compiler processes would go on working while others are timed.
    torch._inductor.config.compile_threads = 1
    return torch.compile(function, dynamic=False, fullgraph=True)


def graphs_compiled() -> int:
    """How many graphs this process has compiled so far."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


def proven(task: Task, before: int | None = None) -> Task:
    """The task, after it was compiled and a second run used what was compiled.

    Args:
        before: `graphs_compiled` before the task could have been compiled; None: it was not yet.

    Raises:
        NotAvailableError: it could not be compiled, or was not.
    """
    before = graphs_compiled() if before is None else before
    try:
        task.run()
        with torch.compiler.set_stance("fail_on_recompile"):
            task.run()
    # Whatever the compiler stumbles over is a reason to do without it.
    except Exception as error:
        raise NotAvailableError(_reason(error)) from error
    if graphs_compiled() == before:
        raise NotAvailableError("torch.compile ran the function as it is")
    return task


def _reason(error: Exception) -> str:
    inner: BaseException = error
    while inner.__cause__ is not None:
        inner = inner.__cause__
    lines = [line.strip() for line in str(inner).splitlines() if line.strip()]
    return f"torch.compile failed: {type(inner).__name__}: {lines[0][:200] if lines else ''}"
