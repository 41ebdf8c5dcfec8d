"""Measured limits: the packaged file, and what is refused in a broken one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusionkit.errors import ConfigError, UnknownNameError
from fusionkit.ops.backends import available_backends
from fusionkit.ops.crossovers import (
    _FILE,
    Crossover,
    crossover,
    has_crossover,
    read_crossovers,
)

ENTRY: dict[str, Any] = {
    "rules": {"sdpa_from": {"head_dim": 64, "steps": 300}},
    "ratios": {"cpu / sdpa, forward": 1.3},
    "date": "2026-11-21",
    "machine": "some CPU, avx2, 1 thread",
    "torch": "2.13.0",
    "note": "",
}


def write(folder: Path, content: Any) -> Path:
    path = folder / "crossovers.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_packaged_entries_are_of_known_operators_and_backends() -> None:
    import fusionkit.ops  # noqa: F401

    for op, entry in read_crossovers(_FILE).items():
        assert crossover(op) == entry and has_crossover(op) and entry.ratios
        names = {backend.name for backend in available_backends()[op]}
        for rule in entry.rules:
            assert rule.removesuffix("_from").removesuffix("_below").split("_")[-1] in names


def test_entry(tmp_path: Path) -> None:
    entry = read_crossovers(write(tmp_path, {"toy": ENTRY}))["toy"]
    assert entry == Crossover(op="toy", **ENTRY)
    assert entry.limit("sdpa_from", "steps") == 300
    assert str(entry) == (
        "sdpa_from head_dim 64 and steps 300; ratios 1.3 to 1.3 "
        "(2026-11-21, some CPU, avx2, 1 thread, torch 2.13.0)"
    )


def test_unknown_names() -> None:
    entry = Crossover(op="toy", **ENTRY)
    with pytest.raises(UnknownNameError, match="did you mean 'sdpa_from'"):
        entry.limit("spda_from", "steps")
    with pytest.raises(UnknownNameError, match=r"quantity of toy\.sdpa_from 'heads'"):
        entry.limit("sdpa_from", "heads")
    with pytest.raises(UnknownNameError, match="unknown crossover 'gated_masks'"):
        crossover("gated_masks")
    assert not has_crossover("gated_masks")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rules": {}}, r"toy\.note: must say what was found"),
        ({"rules": {"sdpa": {"steps": 1}}}, r"toy\.rules\.sdpa: must end with _from or _below"),
        ({"rules": {"sdpa_from": {}}}, r"rules\.sdpa_from: must be an object of quantities"),
        ({"rules": {"sdpa_from": {"steps": 1.5}}}, r"sdpa_from\.steps: must be a whole number"),
        ({"rules": {"sdpa_from": {"steps": True}}}, r"sdpa_from\.steps: must be a whole number"),
        ({"rules": {"sdpa_from": {"steps": -1}}}, r"sdpa_from\.steps: must be a whole number"),
        ({"rules": []}, "rules and ratios must be objects"),
        ({"ratios": {"forward": 0}}, r"ratios\.forward: must be a positive number, got 0"),
        ({"date": "21 November"}, r"toy\.date: must be YYYY-MM-DD, got '21 November'"),
        ({"machine": ""}, r"toy\.machine: must be a text, got ''"),
        ({"torch": 2}, r"toy\.torch: must be a text, got 2"),
        ({"more": 1}, "must have exactly the fields date, machine, note"),
    ],
    ids=str,
)
def test_errors_name_the_field(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read_crossovers(write(tmp_path, {"toy": {**ENTRY, **change}}))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read as JSON"), ([], "one entry an operator"), ({"toy": 1}, "fields")],
    ids=["broken", "list", "number"],
)
def test_errors_name_the_file(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"crossovers\.json: .*{message}"):
        read_crossovers(write(tmp_path, content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json: cannot be read"):
        read_crossovers(tmp_path / "absent.json")
