"""What a finished run found, in memory and in ``results.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionkit.evaluation.protocol import Score


@dataclass(frozen=True)
class RunResult:
    """The numbers of a run and what they depend on.

    Args:
        folder: the run on disk. method, data, seed: what was asked for.
        best_epoch: chosen by validation, counted from 1, of ``epochs`` that were run.
        selection: the rule, in words. interval: how the intervals were made, in words.
        validation, test: metric -> `Score` at that epoch.
        history: one record an epoch. data_sha256: hash of all splits.
        versions: of fusionkit, torch and Python.
    """

    folder: Path
    method: str
    data: str
    seed: int
    metrics: str
    best_epoch: int
    epochs: int
    selection: str
    interval: str
    validation: Mapping[str, Score]
    test: Mapping[str, Score]
    history: list[dict[str, float]]
    data_sha256: str
    versions: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Content of ``results.json`` (the folder is where it lies)."""
        content = {name: value for name, value in vars(self).items() if name != "folder"}
        for split in ("validation", "test"):
            content[split] = {name: s.to_json() for name, s in content[split].items()}
        content["history"] = [
            {name: None if math.isnan(value) else value for name, value in record.items()}
            for record in self.history
        ]
        return content

    @classmethod
    def from_json(cls, folder: Path, content: Mapping[str, Any]) -> RunResult:
        """The inverse of `to_json`."""
        fields = dict(content)
        for split in ("validation", "test"):
            fields[split] = {name: Score.from_json(s) for name, s in fields[split].items()}
        fields["history"] = [
            {name: math.nan if value is None else value for name, value in record.items()}
            for record in fields["history"]
        ]
        return cls(folder=folder, **fields)
