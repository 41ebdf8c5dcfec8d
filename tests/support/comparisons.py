"""A small comparison on synthetic data, as several tests run it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusionkit.experiments import compare
from fusionkit.training.comparison import Comparison

SMALL: dict[str, Any] = {
    "data": "synthetic", "model": {"hidden_size": 3}, "train": {"epochs": 2},
    "data_options": {"samples": 60}, "device": "cpu",
}  # fmt: skip
METHODS = ["mmlatch", "unimodal:text", "unimodal:audio"]


def run(out: Path, methods: list[str] = METHODS, **options: Any) -> tuple[Comparison, list[str]]:
    lines: list[str] = []
    return compare(
        methods, out=out, tell=lines.append, **{"seeds": "0-1", **SMALL, **options}
    ), lines


def without_times(content: dict[str, Any]) -> dict[str, Any]:
    for row in content["rows"]:
        del row["step_seconds"]
        for found in row["runs"].values():
            del found["folder"]
    return content
