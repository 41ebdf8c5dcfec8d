"""Where the tests find the research data and golden numbers that are not part of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# One thread unless a test asks for more, here and in subprocesses: tiny tensors gain nothing from
# threads, and a busy machine makes them wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Without it cuBLAS products are refused where deterministic algorithms are asked for.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

_DEFAULT_SHARED = Path(__file__).resolve().parents[2] / "shared"


def _folder(path: Path, variable: str) -> Path:
    if not path.is_dir():
        pytest.skip(f"{path} is missing: set {variable} to the folder")
    return path


def shared_folder() -> Path:
    return Path(os.environ.get("FUSIONKIT_SHARED", _DEFAULT_SHARED))


def golden_folder() -> Path:
    return Path(os.environ.get("FUSIONKIT_GOLDEN", shared_folder() / "golden" / "visible"))


@pytest.fixture(scope="session", autouse=True)
def _outside_the_checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Subprocesses import the installed package, not the sources that lie in the checkout."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("working_directory"))
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder that ``FUSIONKIT_SHARED`` names."""
    return _folder(shared_folder(), "FUSIONKIT_SHARED")


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder that ``FUSIONKIT_GOLDEN`` names."""
    return _folder(golden_folder(), "FUSIONKIT_GOLDEN")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``golden_case`` runs once a file that matches ``@pytest.mark.golden(patterns)``."""
    marker = metafunc.definition.get_closest_marker("golden")
    if marker is None or "golden_case" not in metafunc.fixturenames:
        return
    folder = golden_folder()
    files = sorted(f for pattern in marker.args for f in folder.glob(pattern))
    names = [file.stem for file in files]
    metafunc.parametrize("golden_case", files or [None], indirect=True, ids=names or ["none"])


@pytest.fixture
def golden_case(request: pytest.FixtureRequest, golden: Path) -> Path:
    """One golden file; fails where the folder is there but holds no case."""
    case = getattr(request, "param", None)
    if case is None:
        pytest.fail(f"no golden case of this kind in {golden}")
    return Path(case)
