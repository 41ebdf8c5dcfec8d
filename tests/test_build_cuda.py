"""When the CUDA kernels are built, for which devices, and the errors on the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from source_builds import NO_COMPILER, accepting_compiler, build, copy_source, script

WANTED = {"FUSIONKIT_BUILD_CUDA": "1"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_source(tmp_path_factory.mktemp("source"))


@pytest.fixture
def compiler(tmp_path: Path) -> str:
    return accepting_compiler(tmp_path)


@pytest.fixture
def nvcc(tmp_path: Path) -> str:
    """Something that answers what setup.py asks of a CUDA compiler."""
    (tmp_path / "lib64").mkdir()
    (tmp_path / "lib64" / "libcudart_static.a").touch()
    return script(
        tmp_path / "nvcc",
        f"""case $1 in
  --list-gpu-code) printf 'sm_80\\nsm_90\\n' ;;
  -dryrun) echo '#$ TOP={tmp_path}' ;;
esac""",
    )


def test_cuda_is_asked_for(source: Path, compiler: str, nvcc: str) -> None:
    asked = {**WANTED, "CXX": compiler, "CUDACXX": nvcc}
    result = build(source, "get_requires_for_build_wheel()", **asked)
    assert "'torch>=2.10', 'pybind11>=2.13', 'ninja'" in result.stdout, result.stderr
    asked["FUSIONKIT_CUDA_ARCHITECTURES"] = "90;100"
    result = build(source, "get_requires_for_build_wheel()", **asked)
    assert "this nvcc knows no '100', only 80, 90" in result.stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("echo no host compiler; exit 1", "cannot compile: no host compiler"),
        ("echo '#$ TOP=/nonexistent'", "has no libcudart_static.a"),
    ],
)
def test_cuda_compiler_that_does_not_work(
    source: Path, compiler: str, tmp_path: Path, body: str, message: str
) -> None:
    asked = {**WANTED, "CXX": compiler, "CUDACXX": script(tmp_path / "nvcc", body)}
    result = build(source, "get_requires_for_build_wheel()", **asked)
    assert result.returncode != 0
    assert f"FUSIONKIT_BUILD_CUDA=1 needs nvcc: {asked['CUDACXX']} {message}" in result.stderr


def test_missing_nvcc(source: Path, compiler: str) -> None:
    asked = {**WANTED, "CXX": compiler, "CUDACXX": "/nonexistent/nvcc"}
    result = build(source, "get_requires_for_build_wheel()", **asked)
    assert result.returncode != 0
    assert "FUSIONKIT_BUILD_CUDA=1 needs nvcc: no nvcc (tried /nonexistent/nvcc)" in result.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {**WANTED, **NO_COMPILER},
            "FUSIONKIT_BUILD_CUDA=1 needs a C++ compiler, and none works",
        ),
        (
            {**WANTED, "FUSIONKIT_BUILD_CPU": "0"},
            "FUSIONKIT_BUILD_CUDA=1 and FUSIONKIT_BUILD_CPU=0: the CUDA kernels are in the same",
        ),
    ],
    ids=["no C++ compiler", "without the CPU"],
)
def test_what_does_not_go_together(source: Path, environment: dict[str, str], message: str) -> None:
    result = build(source, "get_requires_for_build_wheel()", **environment)
    assert result.returncode != 0 and message in result.stderr


def test_no_cuda_without_need(source: Path, compiler: str) -> None:
    """Where torch is not there yet, `auto` looks for no CUDA compiler, and a broken one is fine."""
    result = build(source, "get_requires_for_build_wheel()", CXX=compiler, CUDACXX="/nonexistent")
    assert "'torch>=2.10'" in result.stdout and "nvcc" not in result.stderr


def setup_functions(source: Path, program: str, **environment: str) -> list[str]:
    """Run a program that knows the functions of setup.py; the lines that it prints."""
    start = """
import os, runpy, setuptools
setuptools.setup = lambda **arguments: None
os.environ["FUSIONKIT_BUILD_CPU"] = "0"
globals().update(runpy.run_path("setup.py"))
"""
    done = subprocess.run(
        [sys.executable, "-c", start + program],
        cwd=source,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_auto_follows_torch(source: Path, nvcc: str) -> None:
    program = "print(wanted_nvcc(False)); print(wanted_nvcc(True).architectures)"
    assert setup_functions(source, program, CUDACXX=nvcc) == ["None", "['80', '90']"]
    program = "print(wanted_nvcc(True))"
    assert setup_functions(source, program, CUDACXX="/nonexistent") == ["None"]
    assert setup_functions(source, program, CUDACXX=nvcc, FUSIONKIT_BUILD_CUDA="0") == ["None"]


def test_only_what_is_not_up_to_date_is_compiled(source: Path, nvcc: str, tmp_path: Path) -> None:
    """All sources for the architectures that were asked for, and PTX of the last; then none."""
    with open(nvcc, "a") as file:
        file.write('while [ $# -gt 1 ]; do shift; done; case $1 in *.tmp) touch "$1" ;; esac\n')
    program = f"""
found = [compile_cuda(find_nvcc(), {str(tmp_path)!r}) for _ in range(2)]
assert found[0] == found[1]
print("objects:", *sorted(os.path.basename(file) for file in found[0]))
"""
    asked = {"CUDACXX": nvcc, "FUSIONKIT_CUDA_ARCHITECTURES": "90", "MAX_JOBS": "2"}
    *commands, objects = setup_functions(source, program, **asked)
    names = sorted(f.stem for f in (source / "csrc" / "kernels" / "cuda").glob("*.cu"))
    assert objects == " ".join(["objects:", *(f"{name}.o" for name in names)])
    assert len(commands) == len(names)
    codes = "-gencode=arch=compute_90,code=sm_90 -gencode=arch=compute_90,code=compute_90"
    assert all(codes in command for command in commands)
