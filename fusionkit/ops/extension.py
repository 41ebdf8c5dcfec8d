"""Loads `fusionkit._C`, the compiled operators, once, and tells whether it is there.

Not there: operators run on their references, and `extension_status` says why and what that costs.
There but broken: using an operator raises, because a silent fallback would hide a bad install.
``FUSIONKIT_ISA=base|avx2|avx512`` chooses the instruction set of the CPU kernels.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch  # noqa: F401  # its libraries have to be in the process before the extension's

from fusionkit.errors import ConfigError, FusionKitError

_REBUILD = (
    "with a C++ compiler (g++ or clang++) run, in the folder of FusionKit's source, "
    "`FUSIONKIT_BUILD_CPU=1 pip install --no-build-isolation --force-reinstall --no-deps .`"
)
_COST = (
    "operators run on plain PyTorch: the same numbers, but several passes over memory each "
    "instead of one"
)


class ExtensionError(FusionKitError):
    """The compiled extension is there but cannot be loaded."""


class ExtensionStatus(NamedTuple):
    """What `fusionkit doctor` prints about the compiled extension; empty strings where all is well.

    Args:
        available: whether it is loaded.
        reason: why not, or what it was built with.
        cost: what its absence costs.
        remedy: how to get it.
    """

    available: bool
    reason: str
    cost: str
    remedy: str


def _load() -> tuple[ModuleType | None, str, ImportError | None]:
    try:
        module = importlib.import_module("fusionkit._C")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "fusionkit._C":
            return None, _why_missing(), None
        return None, f"fusionkit._C cannot be loaded: {error}", error
    try:
        module.set_isa(os.environ.get("FUSIONKIT_ISA") or None)
    except ValueError as error:
        raise ConfigError(f"FUSIONKIT_ISA: {error}") from None
    return module, "", None


def _why_missing() -> str:
    others = sorted(f.name for f in Path(__file__).parents[1].glob("_C.*") if f.suffix != ".pyi")
    if others:
        return f"the compiled extension was built for another Python ({', '.join(others)})"
    checkout = Path(__file__).parents[2]
    if (checkout / "setup.py").is_file() and (checkout / "csrc").is_dir():
        return (
            f"these are the sources in {checkout}, not an installed package: leave that folder, or "
            "install it with `pip install -e .`"
        )
    return (
        "installed without the compiled extension: no C++ compiler was found when it was built, "
        "or FUSIONKIT_BUILD_CPU=0 was set"
    )


_module, _reason, _error = _load()


# Read once: a compiled graph cannot ask.
ISA: str = _module.isa() if _module is not None else ""
"""Instruction set level that the CPU kernels were given at import; empty without an extension."""

AVAILABLE: bool = _module is not None
"""Whether the compiled operators are loaded."""

CUDA_ARCHITECTURES: tuple[str, ...] = (
    tuple(_module.build_info()["cuda_architectures"]) if _module is not None else ()
)
"""Compute capabilities that the CUDA kernels were built for, such as ``90``; empty without them."""


def absence() -> str:
    """Why there is no extension; empty if there is one, even a broken one."""
    return "" if _error is not None else _reason


def raise_if_broken() -> None:
    """Keep a bad install from looking like a slow one.

    Raises:
        ExtensionError: the extension is there but cannot be loaded.
    """
    if _error is not None:
        raise ExtensionError(f"{_reason}; {_REBUILD}") from _error


def extension_status() -> ExtensionStatus:
    """Whether the compiled operators are loaded, never raises.

    >>> status = extension_status()
    >>> status.available or bool(status.reason and status.cost and status.remedy)
    True
    """
    if _module is None:
        cost = _COST if _error is None else "operators raise an error"
        return ExtensionStatus(False, _reason, cost, _REBUILD)
    info = _module.build_info()
    built = f"{info['compiler']}, kernels {', '.join(info['isa_levels'])}; using {_module.isa()}"
    return ExtensionStatus(True, built, "", "")
