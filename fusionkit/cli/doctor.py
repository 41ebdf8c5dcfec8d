"""``fusionkit doctor``: what is installed, what is missing, what that costs, and how to get it."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import click
from rich.console import Console
from rich.table import Table

from fusionkit._version import __version__
from fusionkit.errors import FusionKitError
from fusionkit.registry import registry
from fusionkit.report.console import make_console

_PACKAGES = ("torch", "numpy", "lightning-fabric", "torchmetrics", "pydantic", "safetensors")
_OPTIONAL = {
    "triton": "Triton kernels on the GPU: pip install triton",
    "matplotlib": "plots: pip install 'fusionkit-torch[bench]'",
    "transformers": "a local BERT: pip install 'fusionkit-torch[bert]'",
    "av": "video and sound: pip install 'fusionkit-torch[media]'",
    "librosa": "video and sound: pip install 'fusionkit-torch[media]'",
    "seglearn": "the data set `watch`: pip install 'fusionkit-torch[demo]'",
    "tensorboard": "TensorBoard logs: pip install 'fusionkit-torch[tensorboard]'",
}


@click.command("doctor")
def command() -> None:
    """Show versions, processor, threads, backends and plugins, with the reason for what is absent.

    Exits with 1 if a plugin is broken or two plugins claim one name.
    """
    console = make_console()
    console.print(_versions())
    console.print(_machine())
    _extension(console)
    console.print(_backends())
    conflicts = registry().conflicts()
    problems = [*conflicts, *map(str, registry().broken), *_unknown_backend()]
    for problem in problems:
        console.print(f"problem: {problem}")
    if problems:
        raise SystemExit(1)
    console.print("no problem found")


def _versions() -> Table:
    table = _table("versions", "package", "version")
    table.add_row("fusionkit-torch", __version__)
    table.add_row("python", platform.python_version())
    for name in _PACKAGES:
        table.add_row(name, _version(name) or "missing")
    for name, purpose in _OPTIONAL.items():
        table.add_row(name, _version(name) or f"not installed; needed for {purpose}")
    return table


def _machine() -> Table:
    import torch

    table = _table("machine", "what", "found")
    table.add_row("platform", f"{platform.system()} {platform.machine()}")
    table.add_row("processor's best ISA for torch", torch.backends.cpu.get_cpu_capability())
    table.add_row("threads", f"{torch.get_num_threads()} of {os.cpu_count()} cores")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            table.add_row(f"cuda:{index}", torch.cuda.get_device_name(index))
    else:
        why = "no usable GPU or driver" if torch.version.cuda else "this torch is a CPU build"
        table.add_row("cuda", f"not available: {why}")
    return table


def _extension(console: Console) -> None:
    from fusionkit.ops.cuda_runtime import cuda_status
    from fusionkit.ops.extension import extension_status

    for name, status in (
        ("compiled extension", extension_status()),
        ("CUDA kernels", cuda_status()),
    ):
        if status.available:
            console.print(f"{name}: {status.reason}")
            continue
        console.print(f"{name}: absent: {status.reason}")
        console.print(f"  cost: {status.cost}")
        console.print(f"  remedy: {status.remedy}")


def _backends() -> Table:
    from fusionkit.ops import available_backends

    table = _table("backends, the preferred one first", "operator", "backend", "state")
    for op, backends in available_backends().items():
        for backend in backends:
            state = f"absent: {backend.unavailable}" if backend.unavailable else backend.summary
            table.add_row(op, backend.name, state)
    return table


def _unknown_backend() -> list[str]:
    from fusionkit.ops.backends import check_forced

    try:
        check_forced()
    except FusionKitError as error:
        return [f"FUSIONKIT_BACKEND: {error}"]
    return []


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left")


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
