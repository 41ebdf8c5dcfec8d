"""A finished comparison, made once for all tests of a process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fusionkit.training.comparison import Comparison

from comparisons import run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    folder = tmp_path_factory.mktemp("comparison") / "c"
    return folder, run(folder)[0]


@pytest.fixture
def copy(finished: tuple[Path, Comparison], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[0], tmp_path / "c"))
