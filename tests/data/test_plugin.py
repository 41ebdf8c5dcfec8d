"""The built-in sources register without importing torch, and refuse unknown options."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from pydantic import ValidationError

from fusionkit.data.plugin import fusionkit_register_datasets
from fusionkit.data.source import DataSource


def _sources() -> dict[str, DataSource]:
    found: list[DataSource] = []
    fusionkit_register_datasets(found.append)
    return {source.name: source for source in found}


def test_sources() -> None:
    assert sorted(_sources()) == ["npz", "ntu", "ravdess", "synthetic", "watch"]
    assert "path" in _sources()["npz"].config.model_fields


@pytest.mark.parametrize("name", ["npz", "ntu", "ravdess", "synthetic", "watch"])
def test_every_option_is_described(name: str) -> None:
    source = _sources()[name]
    assert source.summary
    for field, info in source.config.model_fields.items():
        assert info.description, field


@pytest.mark.parametrize("name", ["npz", "ntu", "ravdess", "synthetic", "watch"])
def test_unknown_options_are_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="normalize"):
        _sources()[name].config.model_validate({"path": "x.npz", "normalize": True})


def test_registering_and_reading_need_no_torch() -> None:
    code = (
        "import sys; from fusionkit.data import plugin; found = []; "
        "plugin.fusionkit_register_datasets(found.append); "
        "source = next(s for s in found if s.name == 'synthetic'); "
        "source.load(source.config(samples=20)); print('torch' in sys.modules)"
    )
    path = os.pathsep.join(p for p in sys.path if p)
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert run.stdout.strip() == "False"
