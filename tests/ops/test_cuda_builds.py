"""Every CUDA kernel compiles for the GPUs that it is for, without a GPU, and within its budget."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import cuda_builds

BUDGET_IS_READ = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="needs Python 3.11, whose tomllib reads the budget"
)
# Beyond it a launch has to ask for more, which is for dynamic shared memory only.
MAX_SHARED = 48 * 1024


def budget() -> dict[str, Any]:
    import tomllib

    return tomllib.loads(cuda_builds.BUDGET.read_text())


def excess(found: cuda_builds.Usage, allowed: cuda_builds.Usage, exactly: bool) -> list[str]:
    """What is wrong with the kernels of one source."""
    problems = []
    for kernel, numbers in found.items():
        if kernel not in allowed:
            problems.append(f"{kernel} is missing in {cuda_builds.BUDGET.name}")
        elif exactly:
            problems += [
                f"{kernel}: {key} {value}, allowed {allowed[kernel][key]}"
                for key, value in numbers.items()
                if value > allowed[kernel][key]
            ]
        if numbers["spill"] > 0:
            problems.append(f"{kernel} spills {numbers['spill']} bytes")
        if numbers["shared"] > MAX_SHARED:
            problems.append(f"{kernel} has {numbers['shared']} bytes of static shared memory")
    return problems + [f"there is no {kernel}" for kernel in allowed if kernel not in found]


@BUDGET_IS_READ
@pytest.mark.skipif(bool(cuda_builds.absence()), reason=cuda_builds.absence())
@pytest.mark.parametrize("capability", cuda_builds.CAPABILITIES)
def test_every_kernel_compiles_within_its_budget(capability: str) -> None:
    allowed = budget()
    # Another compiler gives other numbers, but must not spill either.
    exactly = allowed["nvcc"] == cuda_builds.version()
    problems = []
    for source, found in cuda_builds.usage(capability, cuda_builds.sources()).items():
        assert found, f"{source} has no kernel"
        kernels = allowed.get(source, {}).get(f"sm_{capability}", {})
        problems += [f"{source}: {p}" for p in excess(found, kernels, exactly)]
    assert not problems, "\n".join(problems)


@BUDGET_IS_READ
def test_every_source_has_a_budget() -> None:
    allowed = budget()
    del allowed["nvcc"]
    assert sorted(allowed) == cuda_builds.sources()
    for capabilities in allowed.values():
        assert set(capabilities) == {f"sm_{c}" for c in cuda_builds.CAPABILITIES}


PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN9fusionkit4cuda6kernelIfLi3EEEvPKf' for 'sm_90'
ptxas info    : Function properties for _ZN9fusionkit4cuda6kernelIfLi3EEEvPKf
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 16 bytes cumulative stack size, 512 bytes smem
ptxas info    : Compiling entry function '_Z5otherPf' for 'sm_90'
ptxas info    : Function properties for _Z5otherPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""


@pytest.mark.skipif(bool(cuda_builds.absence()), reason=cuda_builds.absence())
def test_what_ptxas_says_is_read() -> None:
    assert cuda_builds.parse(PTXAS) == {
        "kernel<float, 3>": {"registers": 40, "spill": 8, "stack": 16, "shared": 512},
        "other": {"registers": 8, "spill": 0, "stack": 0, "shared": 0},
    }


def test_what_is_over_the_budget_is_told() -> None:
    numbers = {"registers": 40, "spill": 0, "stack": 0, "shared": 0}
    more = {**numbers, "registers": 41, "spill": 4}
    assert excess({"a": numbers}, {"a": numbers}, exactly=True) == []
    assert excess({"a": more}, {"a": numbers, "b": numbers}, exactly=True) == [
        "a: registers 41, allowed 40",
        "a: spill 4, allowed 0",
        "a spills 4 bytes",
        "there is no b",
    ]
    assert excess({"a": more}, {}, exactly=False) == [
        "a is missing in resources.toml",
        "a spills 4 bytes",
    ]
