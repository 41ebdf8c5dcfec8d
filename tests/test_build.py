"""What gets built: the compiled extension, the wheel without it, and the errors on the way."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from fusionkit.ops.extension import extension_status

from source_builds import NO_COMPILER, ROOT, accepting_compiler, build, copy_source

STATUS = extension_status()
LEVELS = importlib.import_module("fusionkit._C").isa_levels() if STATUS.available else []
CUDA_OPERATORS = {
    f"fusionkit_cuda::{name}{direction}"
    for name in ("cross_attention", "cross_attention_pairs", "gated_mask", "lstm_steps")
    for direction in ("", "_backward")
}


@pytest.fixture
def extension() -> ModuleType:
    """`fusionkit._C`."""
    if not STATUS.available:
        pytest.skip(f"needs fusionkit._C: {STATUS.reason}")
    return importlib.import_module("fusionkit._C")


def python(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a new process."""
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_build_info(extension: ModuleType) -> None:
    info = extension.build_info()
    assert set(info) == {"compiler", "isa_levels", "cuda_architectures", "torch_target"}
    assert info["isa_levels"][0] == "base" and set(LEVELS) <= set(info["isa_levels"])
    assert all(architecture.isdigit() for architecture in info["cuda_architectures"])
    assert info["torch_target"] == "2.10"
    assert info["compiler"].split()[0] in STATUS.reason


def test_kernels_are_registered_operators(extension: ModuleType) -> None:
    import torch

    names = extension.kernels()
    assert {"fusionkit::gated_mask", "fusionkit::gated_mask_backward"} <= set(names)
    for name in names:
        key = "CUDA" if name.startswith("fusionkit_cuda::") else "CPU"
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
    on_cuda = {name for name in names if name.startswith("fusionkit_cuda::")}
    assert on_cuda == (CUDA_OPERATORS if extension.build_info()["cuda_architectures"] else set())


def test_cuda_devices(extension: ModuleType) -> None:
    """Counting them needs no driver, and tells why there are none."""
    count, why_none = extension.cuda_devices()
    assert (count > 0) == (why_none == "")
    if not extension.build_info()["cuda_architectures"]:
        assert why_none == "built without CUDA kernels"


def test_best_level_is_the_default(extension: ModuleType) -> None:
    program = "import fusionkit.ops, fusionkit._C as c; print(c.isa())"
    assert python(program, FUSIONKIT_ISA="").stdout.strip() == LEVELS[-1]


def test_unknown_level_is_refused(extension: ModuleType) -> None:
    before = extension.isa()
    with pytest.raises(ValueError, match="unknown instruction set 'sse9'; compiled are: base"):
        extension.set_isa("sse9")
    assert extension.isa() == before


@pytest.mark.parametrize("level", LEVELS or [None])
def test_environment_variable_sets_the_level(extension: ModuleType, level: str) -> None:
    program = """
import torch, fusionkit._C as c
from fusionkit.ops import gated_mask
from fusionkit.ops.extension import extension_status
x = torch.linspace(-9, 9, 99).view(1, 1, 99)
torch.testing.assert_close(gated_mask(x, [x]), x * x.sigmoid())
print(c.isa(), extension_status().reason)
"""
    result = python(program, FUSIONKIT_ISA=level)
    assert result.stdout.split()[0] == level, result.stderr
    assert result.stdout.strip().endswith(f"using {level}")


def test_environment_variable_with_a_bad_level(extension: ModuleType) -> None:
    result = python("import fusionkit.ops", FUSIONKIT_ISA="sse9")
    assert result.returncode != 0
    assert "ConfigError: FUSIONKIT_ISA: unknown instruction set 'sse9'" in result.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc/self/maps")
def test_one_openmp_runtime(extension: ModuleType) -> None:
    """Two of them would fight for the processor's cores."""
    program = """
import torch
from fusionkit.ops import gated_mask
x = torch.ones(8, 50, 300)
gated_mask(x, [x])
print(len({line.split()[-1] for line in open("/proc/self/maps") if "omp" in line.split("/")[-1]}))
"""
    assert int(python(program).stdout) <= 1


HIDE = """
import sys
class Hider:
    def find_spec(self, name, path=None, target=None):
        if name == "fusionkit._C":
            raise {error}
sys.meta_path.insert(0, Hider())
import torch
from fusionkit.ops import explain, force_backend, gated_mask
from fusionkit.ops.extension import extension_status
print(*extension_status(), sep="\\n")
x = torch.tensor([[[0.0, 2.0]]])
with force_backend({backend!r}):
    print(gated_mask(x, [torch.zeros_like(x)]).tolist())
"""
ABSENT = 'ModuleNotFoundError("hidden", name=name)'
BROKEN = 'ImportError("undefined symbol: torch_parallel_for")'


def test_works_without_the_extension() -> None:
    lines = python(HIDE.format(error=ABSENT, backend="reference")).stdout.splitlines()
    available, reason, cost, remedy, result = lines
    assert available == "False" and result == "[[[0.0, 1.0]]]"
    assert "plain PyTorch" in cost and "FUSIONKIT_BUILD_CPU=1" in remedy
    if not STATUS.available:
        assert "installed without the compiled extension: no C++ compiler was found" in reason


def test_forced_kernel_without_the_extension() -> None:
    stderr = python(HIDE.format(error=ABSENT, backend="cpu")).stderr
    assert "BackendError: gated_mask: the forced backend 'cpu' cannot run: " in stderr
    assert "the compiled extension" in stderr


def test_broken_extension_raises_with_its_cause() -> None:
    """It must not look like a slow install."""
    result = python(HIDE.format(error=BROKEN, backend="cpu"))
    assert result.stdout.splitlines()[0] == "False"
    assert "ExtensionError: fusionkit._C cannot be loaded: undefined symbol" in result.stderr
    assert "ImportError: undefined symbol: torch_parallel_for" in result.stderr


def test_broken_extension_leaves_the_reference() -> None:
    result = python(HIDE.format(error=BROKEN, backend="reference"))
    assert result.stdout.splitlines()[-1] == "[[[0.0, 1.0]]]"


@pytest.mark.parametrize(
    "environment",
    [NO_COMPILER, {"FUSIONKIT_BUILD_CPU": "0"}, {**NO_COMPILER, "FUSIONKIT_BUILD_CUDA": "0"}],
    ids=["no compiler", "not wanted", "no CUDA wanted"],
)
def test_pure_python_needs_only_setuptools(source: Path, environment: dict[str, str]) -> None:
    result = build(source, "get_requires_for_build_wheel()", **environment)
    assert result.stdout.strip().endswith("result: []"), result.stderr


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_source(tmp_path_factory.mktemp("source"))


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    return accepting_compiler(tmp_path)


def test_extension_asks_for_torch_when_it_is_built(source: Path, compiler: str) -> None:
    result = build(source, "get_requires_for_build_wheel()", CXX=compiler)
    assert "'torch>=2.10', 'pybind11>=2.13', 'ninja'" in result.stdout


def test_missing_torch_without_isolation(source: Path, compiler: str) -> None:
    result = build(source, "build_wheel('dist')", CXX=compiler)
    assert result.returncode != 0
    assert "install torch first, build with isolation, or set FUSIONKIT_BUILD_CPU=0" in (
        result.stderr
    )


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"FUSIONKIT_BUILD_CPU": "1", **NO_COMPILER},
            "FUSIONKIT_BUILD_CPU=1 needs a C++ compiler, and none works (tried CXX=/nonexistent",
        ),
        ({"FUSIONKIT_BUILD_CPU": "yes"}, "FUSIONKIT_BUILD_CPU=yes: must be 0, 1 or auto"),
    ],
    ids=["no compiler", "bad value"],
)
def test_build_errors(source: Path, environment: dict[str, str], message: str) -> None:
    result = build(source, "get_requires_for_build_wheel()", **environment)
    assert result.returncode != 0 and message in result.stderr


def test_wheel_of_pure_python(source: Path) -> None:
    result = build(source, "build_wheel('dist')", **NO_COMPILER)
    assert "no working C++ compiler (CXX=/nonexistent/c++): pure Python build" in result.stderr
    (wheel,) = (source / "dist").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if not name.split("/")[0].endswith("info")}
    assert packages == {"fusionkit", "fusionkit_plugins"}
    assert {
        "fusionkit/py.typed",
        "fusionkit/_C.pyi",
        "fusionkit/ops/gated_mask/reference.py",
        "fusionkit_plugins/__init__.py",
    } <= set(names)
    for plugin in (ROOT / "plugins").glob("*/__init__.py"):
        assert f"fusionkit_plugins/{plugin.parent.name}/__init__.py" in names
    assert not [name for name in names if name.endswith((".cpp", ".h", ".cu", ".cuh", ".so"))]


def test_source_distribution_holds_the_kernels(source: Path) -> None:
    result = build(source, "build_sdist('dist')", **NO_COMPILER)
    assert result.returncode == 0, result.stderr
    (archive,) = (source / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.split("/", 1)[-1] for name in opened.getnames()}
    kernels = {str(f.relative_to(ROOT)) for f in (ROOT / "csrc").glob("**/*.[ch]*") if f.is_file()}
    assert kernels and kernels <= names
    assert {"setup.py", "pyproject.toml", "plugins/__init__.py", "fusionkit/py.typed"} <= names
