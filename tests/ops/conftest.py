"""The compiled extension for tests, with any instruction set of this CPU."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from fusionkit.ops.cuda_runtime import EMULATED, cuda_absence
from fusionkit.ops.extension import extension_status

import cuda_emulated

_STATUS = extension_status()


@pytest.fixture
def extension() -> ModuleType:
    """`fusionkit._C`."""
    if not _STATUS.available:
        pytest.skip(f"needs fusionkit._C: {_STATUS.reason}")
    return importlib.import_module("fusionkit._C")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        levels = importlib.import_module("fusionkit._C").isa_levels() if _STATUS.available else []
        metafunc.parametrize("isa", levels or [None], indirect=True, ids=levels or ["no extension"])


@pytest.fixture
def restore() -> Iterator[None]:
    """Gives back the number of threads and the instruction set that the test may change."""
    threads = torch.get_num_threads()
    compiled = importlib.import_module("fusionkit._C") if _STATUS.available else None
    level = compiled.isa() if compiled else None
    yield
    torch.set_num_threads(threads)
    if compiled:
        compiled.set_isa(level)


@pytest.fixture
def isa(request: pytest.FixtureRequest, extension: ModuleType, restore: None) -> str:
    """The kernels' instruction set: one after the other, all that this CPU has."""
    level: str = request.param
    extension.set_isa(level)
    return level


@pytest.fixture
def unwritten_is_nan() -> Iterator[None]:
    """New tensors are full of NaN until they are written."""
    enabled = torch.are_deterministic_algorithms_enabled()
    # Only warn: on a GPU references may use what has no deterministic form.
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(enabled)


@pytest.fixture(scope="session")
def cuda_kernels() -> str:
    """The device on which the CUDA kernels run: one that is there, or the CPU in an emulator."""
    if EMULATED:
        cuda_emulated.load()
        return "cpu"
    if cuda_absence():
        pytest.skip(f"{cuda_absence()}; or run with FUSIONKIT_CUDA_ON_CPU=1")
    return "cuda"
