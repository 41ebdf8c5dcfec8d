"""A third-party distribution in an environment of its own: installed, listed, trained by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "third_party_plugin"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment that sees this one's packages and has the example installed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    own = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    ).strip()
    here = sysconfig.get_path("purelib")
    (Path(own) / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    source = tmp_path_factory.mktemp("source")
    for file in EXAMPLE.iterdir():
        if file.is_file():
            (source / file.name).write_bytes(file.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps",
         "--no-build-isolation", "--no-index", source],
        check=True,
    )  # fmt: skip
    return python


def run(python: Path, *arguments: str, folder: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, *arguments], cwd=folder, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plugin_is_listed_with_its_distribution(python: Path, tmp_path: Path) -> None:
    listing = run(python, "-m", "fusionkit", "list", "methods", folder=tmp_path)
    assert "mean_pool" in listing
    assert "fusionkit-mean-pool" in listing


def test_plugin_trains_by_name(python: Path, tmp_path: Path) -> None:
    run(
        python, "-m", "fusionkit", "train", "mean_pool", "--data", "synthetic",
        "--set", "data.samples=120", "--set", "train.epochs=2", "--set", "hidden_size=8",
        "--out", "run", folder=tmp_path,
    )  # fmt: skip
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["method"] == "mean_pool"
    assert 0 <= results["test"]["accuracy"]["value"] <= 1
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    assert description["distribution"] == "fusionkit-mean-pool 0.1.0"


def test_plugin_passes_the_conformance_kit(python: Path, tmp_path: Path) -> None:
    code = "from fusionkit.testing import assert_conforms; assert_conforms('mean_pool')"
    run(python, "-c", code, folder=tmp_path)


def test_example_is_short() -> None:
    lines = (EXAMPLE / "fusionkit_mean_pool.py").read_text().splitlines()
    assert len(lines) < 60
