"""Builds `fusionkit._C`, the compiled operators; everything else is in pyproject.toml.

``FUSIONKIT_BUILD_CPU`` is ``auto`` (the default: built where a C++ compiler works, else the package
is pure Python), ``1`` (a missing compiler is an error) or ``0`` (pure Python).
``FUSIONKIT_BUILD_CUDA`` adds the CUDA kernels: ``auto`` (where nvcc works and torch is built for
CUDA), ``1`` (wherever nvcc works, else an error) or ``0``. ``FUSIONKIT_CUDA_ARCHITECTURES`` is a
list such as ``90;100``. ``CXX`` and ``CUDACXX`` name the compilers, ``MAX_JOBS`` how many may run.
What the build itself needs (torch and others) is asked for only where the extension gets built, so
that a pure Python build needs setuptools alone. A failing compilation is an error, never a package
without operators.
"""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

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
# Of each generation of devices the first; the last one is there as PTX, too, for those to come.
CUDA_ARCHITECTURES = ("80", "90", "100", "120")
CUDA_ARGS = ["-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden"]


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


class Nvcc(NamedTuple):
    """A CUDA compiler that works.

    Args:
        command: of the shell. architectures: that it will compile for. libraries: folder of its
            runtime library.
    """

    command: str
    architectures: list[str]
    libraries: str


def find_nvcc() -> Nvcc | str:
    """$CUDACXX, or nvcc from the PATH or $CUDA_HOME; or why none can be used."""
    home = os.environ.get("CUDA_HOME") or "/usr/local/cuda"
    asked = os.environ.get("CUDACXX")
    tried = [asked] if asked else ["nvcc", f"{home}/bin/nvcc"]
    reason = f"no nvcc (tried {', '.join(tried)})"
    for command in tried:
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.cu")
            with open(source, "w") as file:
                file.write("#include <cuda_fp16.h>\n__global__ void probe() {}\n")
            try:
                known = _output([*shlex.split(command), "--list-gpu-code"], folder)
                paths = _output([*shlex.split(command), "-dryrun", "-c", source], folder)
                _output([*shlex.split(command), "-c", source], folder)
            except OSError:
                continue
            except subprocess.CalledProcessError as error:
                reason = f"{command} cannot compile: {error.stdout.strip()[-500:]}"
                continue
        top = re.search(r"^#\$ TOP=(.*)", paths, re.MULTILINE)
        folders = [*re.findall(r'"-L([^"]+)"', paths), f"{top[1]}/lib64" if top else ""]
        for libraries in folders:
            if os.path.exists(os.path.join(libraries, "libcudart_static.a")):
                return Nvcc(command, _architectures(re.findall(r"sm_(\d+)", known)), libraries)
        reason = f"{command} has no libcudart_static.a"
    return reason


def _output(call: list[str], folder: str) -> str:
    return subprocess.run(
        call, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, check=True
    ).stdout


def _architectures(known: list[str]) -> list[str]:
    asked = re.split("[;, ]+", os.environ.get("FUSIONKIT_CUDA_ARCHITECTURES", "").strip(";, "))
    if asked == [""]:
        # An older nvcc does not know the latest devices.
        return [architecture for architecture in CUDA_ARCHITECTURES if architecture in known]
    for architecture in asked:
        if architecture not in known:
            raise SystemExit(
                f"FUSIONKIT_CUDA_ARCHITECTURES: this nvcc knows no {architecture!r}, only "
                f"{', '.join(known)}; write such as 90;100"
            )
    return sorted(asked, key=int)


def wants_extension() -> bool:
    wanted, wanted_by = option("FUSIONKIT_BUILD_CPU"), "FUSIONKIT_BUILD_CPU=1"
    if option("FUSIONKIT_BUILD_CUDA") == "1":
        if wanted == "0":
            raise SystemExit(
                "FUSIONKIT_BUILD_CUDA=1 and FUSIONKIT_BUILD_CPU=0: the CUDA kernels are in the "
                "same module as those for the CPU; leave FUSIONKIT_BUILD_CPU unset"
            )
        wanted, wanted_by = "1", "FUSIONKIT_BUILD_CUDA=1"
    if wanted == "0":
        return False
    compiler = find_compiler()
    if compiler is not None:
        os.environ["CXX"] = compiler
        return True
    tried = f"CXX={os.environ['CXX']}" if os.environ.get("CXX") else "c++, g++ and clang++"
    if wanted == "1":
        raise SystemExit(
            f"{wanted_by} needs a C++ compiler, and none works (tried {tried}): "
            "install g++ or clang++, or set CXX"
        )
    print(f"fusionkit: no working C++ compiler ({tried}): pure Python build", file=sys.stderr)
    return False


def wanted_nvcc(torch_has_cuda: bool) -> Nvcc | None:
    """The CUDA compiler, where the CUDA kernels are to be built."""
    wanted = option("FUSIONKIT_BUILD_CUDA")
    if wanted == "0" or (wanted == "auto" and not torch_has_cuda):
        return None
    nvcc = find_nvcc()
    if isinstance(nvcc, Nvcc):
        return nvcc
    if wanted == "1":
        raise SystemExit(
            f"FUSIONKIT_BUILD_CUDA=1 needs nvcc: {nvcc}; install the CUDA toolkit, or set CUDACXX "
            "or CUDA_HOME"
        )
    print(f"fusionkit: {nvcc}: no CUDA kernels", file=sys.stderr)
    return None


def compile_cuda(nvcc: Nvcc, folder: str) -> list[str]:
    """Compile csrc/kernels/cuda/*.cu, several at once; what is up to date stays."""
    sources = sorted(Path("csrc/kernels/cuda").glob("*.cu"))
    newest = max(f.stat().st_mtime for f in [*Path("csrc/kernels/cuda").iterdir(), Path(__file__)])
    jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
    codes = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in nvcc.architectures]
    codes.append("-gencode=arch=compute_{0},code=compute_{0}".format(nvcc.architectures[-1]))
    threads = f"--threads={max(1, jobs // len(sources))}"
    objects = Path(folder, "cuda-" + "-".join(nvcc.architectures))
    objects.mkdir(parents=True, exist_ok=True)

    def compiled(source: Path) -> str:
        target = objects / f"{source.stem}.o"
        if not target.exists() or target.stat().st_mtime < newest:
            command = [*shlex.split(nvcc.command), *CUDA_ARGS, *codes, threads, "-c", str(source)]
            # One write with its line end: several threads print at once.
            print(shlex.join([*command, "-o", str(target)]) + "\n", end="", flush=True)
            # A file that is cut off must not look like one that is up to date.
            subprocess.run([*command, "-o", f"{target}.tmp"], check=True)
            os.replace(f"{target}.tmp", target)
        return str(target)

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(compiled, sources))


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
        # Without torch a missing nvcc can be told already, but not whether one is of any use.
        wanted_nvcc(torch_has_cuda=False)
        extension = Extension("fusionkit._C", sources, depends=headers)
        return {**arguments, "ext_modules": [extension], "cmdclass": {"build_ext": TorchIsMissing}}
    if tuple(map(int, torch.__version__.split(".")[:2])) < TORCH_TARGET:
        raise SystemExit(
            f"fusionkit._C needs {BUILD_REQUIREMENTS[0]} to build, and torch {torch.__version__} "
            "is installed: upgrade it, or set FUSIONKIT_BUILD_CPU=0 for pure Python"
        )
    nvcc = wanted_nvcc(torch_has_cuda=torch.version.cuda is not None)
    compile_args, link_args = COMPILE_ARGS, []
    if nvcc is None:
        sources = [s for s in sources if not s.startswith(os.path.join("csrc", "binding", "cuda"))]
    else:
        architectures = ";".join(nvcc.architectures)
        compile_args = [*COMPILE_ARGS, f'-DFUSIONKIT_CUDA_ARCHITECTURES="{architectures}"']
        # The static runtime asks for the driver when it is first used: the module can be imported
        # where there is none.
        link_args = [f"-L{nvcc.libraries}", "-lcudart_static", "-lrt", "-ldl", "-lpthread"]

    class BuildBoth(BuildExtension):  # type: ignore[misc]
        def build_extensions(self) -> None:
            if nvcc is not None:
                self.extensions[0].extra_objects = compile_cuda(nvcc, self.build_temp)
            super().build_extensions()

    extension = CppExtension(  # type: ignore[no-untyped-call]
        "fusionkit._C",
        sources,
        depends=headers,
        include_dirs=[pybind11.get_include()],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
    )
    # The stable ABI lives in torch_cpu; torch_python would tie the binary to one version.
    extension.libraries.remove("torch_python")
    return {**arguments, "ext_modules": [extension], "cmdclass": {"build_ext": BuildBoth}}


plugins = ["fusionkit_plugins", *(f"fusionkit_plugins.{p}" for p in find_packages("plugins"))]
setup(
    packages=[*find_packages(include=["fusionkit", "fusionkit.*"]), *plugins],
    package_dir={"fusionkit_plugins": "plugins"},
    **(extension_arguments() if wants_extension() else {}),
)
