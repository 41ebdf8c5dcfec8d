"""Builds `fusionkit._C`, the compiled operators; everything else is in pyproject.toml.

``FUSIONKIT_BUILD_CPU`` is ``auto`` (the default: built where a C++ compiler works, else the package
is pure Python), ``1`` (a missing compiler is an error) or ``0`` (pure Python).
``FUSIONKIT_BUILD_CUDA`` is ``auto`` or ``0``. ``CXX`` names the compiler. What the build itself
needs (torch and others) is asked for only where the extension gets built, so that a pure Python
build needs setuptools alone. A failing compilation is an error, never a package without operators.
"""

from __future__ import annotations

import glob
import os
import shlex
import subprocess
import sys
import tempfile
from typing import Any

from setuptools import Extension, find_packages, setup  # type: ignore[import-untyped]
from setuptools.command.build_ext import build_ext  # type: ignore[import-untyped]

# The oldest torch that has torch::stable::parallel_for; the binary runs on it and on later ones.
TORCH_TARGET = (2, 10)
BUILD_REQUIREMENTS = [
    "torch>={}.{}".format(*TORCH_TARGET),
    "pybind11>=2.13",
    "ninja",
    "numpy>=1.26",
]
COMPILE_ARGS = [
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    # Enough for vectorised loops. -ffast-math would break the range reduction of exp, and NaN.
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    f"-DTORCH_TARGET_VERSION={TORCH_TARGET[0] << 56 | TORCH_TARGET[1] << 48:#018x}",
]


def option(name: str) -> str:
    value = os.environ.get(name, "auto") or "auto"
    if value not in ("0", "1", "auto"):
        raise SystemExit(f"{name}={value}: must be 0, 1 or auto")
    return value


def find_compiler() -> str | None:
    """The command of a C++ compiler that can build a program: $CXX alone if it is set."""
    asked = os.environ.get("CXX")
    for command in [asked] if asked else ["c++", "g++", "clang++"]:
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.cpp")
            with open(source, "w") as file:
                file.write("#include <vector>\nint main() { return std::vector<int>{0}[0]; }\n")
            call = [*shlex.split(command), source, "-o", os.path.join(folder, "probe")]
            try:
                if subprocess.run(call, capture_output=True, cwd=folder).returncode == 0:
                    return command
            except OSError:
                continue
    return None


def wants_extension() -> bool:
    if option("FUSIONKIT_BUILD_CUDA") == "1":
        raise SystemExit(
            "FUSIONKIT_BUILD_CUDA=1: no CUDA kernels in this version; leave it unset or set it to 0"
        )
    wanted = option("FUSIONKIT_BUILD_CPU")
    if wanted == "0":
        return False
    compiler = find_compiler()
    if compiler is not None:
        os.environ["CXX"] = compiler
        return True
    tried = f"CXX={os.environ['CXX']}" if os.environ.get("CXX") else "c++, g++ and clang++"
    if wanted == "1":
        raise SystemExit(
            f"FUSIONKIT_BUILD_CPU=1 needs a C++ compiler, and none works (tried {tried}): "
            "install g++ or clang++, or set CXX"
        )
    print(f"fusionkit: no working C++ compiler ({tried}): pure Python build", file=sys.stderr)
    return False


class TorchIsMissing(build_ext):  # type: ignore[misc]
    """Stands in for torch's build command, while only the build requirements are asked for."""

    def run(self) -> None:
        raise SystemExit(
            f"fusionkit._C is built against torch {TORCH_TARGET[0]}.{TORCH_TARGET[1]} or later, "
            "and `import torch` fails here: install torch first, build with isolation, or set "
            "FUSIONKIT_BUILD_CPU=0 for pure Python"
        )


def extension_arguments() -> dict[str, Any]:
    sources = sorted(glob.glob("csrc/**/*.cpp", recursive=True))
    headers = sorted(glob.glob("csrc/**/*.h", recursive=True))
    arguments: dict[str, Any] = {"setup_requires": BUILD_REQUIREMENTS}
    try:
        import pybind11
        import torch
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        extension = Extension("fusionkit._C", sources, depends=headers)
        return {**arguments, "ext_modules": [extension], "cmdclass": {"build_ext": TorchIsMissing}}
    if tuple(map(int, torch.__version__.split(".")[:2])) < TORCH_TARGET:
        raise SystemExit(
            f"fusionkit._C needs {BUILD_REQUIREMENTS[0]} to build, and torch {torch.__version__} "
            "is installed: upgrade it, or set FUSIONKIT_BUILD_CPU=0 for pure Python"
        )
    extension = CppExtension(  # type: ignore[no-untyped-call]
        "fusionkit._C",
        sources,
        depends=headers,
        include_dirs=[pybind11.get_include()],
        extra_compile_args=COMPILE_ARGS,
    )
    # The stable ABI lives in torch_cpu; torch_python would tie the binary to one version.
    extension.libraries.remove("torch_python")
    return {**arguments, "ext_modules": [extension], "cmdclass": {"build_ext": BuildExtension}}


plugins = ["fusionkit_plugins", *(f"fusionkit_plugins.{p}" for p in find_packages("plugins"))]
setup(
    packages=[*find_packages(include=["fusionkit", "fusionkit.*"]), *plugins],
    package_dir={"fusionkit_plugins": "plugins"},
    **(extension_arguments() if wants_extension() else {}),
)
