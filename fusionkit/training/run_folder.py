"""A run on disk: everything that is needed to resume, evaluate and predict, in one folder."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from fusionkit._version import __version__
from fusionkit.data.preparation import Preparation
from fusionkit.data.spec import DataSpec
from fusionkit.errors import CheckpointError, DataError, RunExistsError
from fusionkit.training.checkpoint import write_atomically

_FORMAT = 1
_FIELDS: dict[str, type] = {
    "method": str, "model": dict, "train": dict, "data": dict, "spec": dict, "preparation": dict,
    "seed": int, "metrics": str, "versions": dict,
}  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """``run.json`` (what was asked for), ``checkpoints/``, ``logs/`` and ``results.json``."""

    path: Path

    @classmethod
    def create(cls, path: Path, description: Mapping[str, Any]) -> RunFolder:
        """Make a new folder with its ``run.json``.

        Raises:
            RunExistsError: the path exists. CheckpointError: it cannot be made.
        """
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise RunExistsError(
                f"{path}: exists already and is never overwritten; choose another folder, or "
                f"continue an interrupted run with `fusionkit train --resume {path}`"
            ) from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be made: {error.strerror}") from error
        run = cls(path)
        run._write("run.json", {"format": _FORMAT, **description, **_provenance()})
        return run

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run.

        Raises:
            CheckpointError: it is not there, or not a run of this format.
        """
        run = cls(path)
        found = run.description.get("format")
        if found != _FORMAT:
            raise CheckpointError(
                f"{path / 'run.json'}: format {found!r}, this version reads {_FORMAT}"
            )
        run._check()
        return run

    @property
    def spec(self) -> DataSpec:
        """Modalities and task of the run."""
        return DataSpec.from_json(self.description["spec"])

    @property
    def preparation(self) -> Preparation:
        """What is done to raw features."""
        return Preparation.from_json(self.description["preparation"])

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def logs(self) -> Path:
        """Folder of the CSV and TensorBoard logs."""
        return self.path / "logs"

    @property
    def description(self) -> dict[str, Any]:
        """Content of ``run.json``."""
        return self._read("run.json")

    @property
    def results(self) -> dict[str, Any] | None:
        """Content of ``results.json``, or None while the run is not finished."""
        return self._read("results.json") if (self.path / "results.json").exists() else None

    def _check(self) -> None:
        """Raise CheckpointError if ``run.json`` was edited into something else."""
        content = self.description
        try:
            for key, kind in _FIELDS.items():
                if not isinstance(content[key], kind):
                    raise TypeError(f"{key!r} is no {kind.__name__}")
            if content["data"]["source"] is not None:
                _ = content["data"]["name"], content["data"]["config"], content["data"]["sha256"]
            known = {name: len(values) + 1 for name, values in self.preparation.context.items()}
            if known != self.spec.context:
                raise ValueError("'preparation' does not fit the context of 'spec'")
            sizes = self.spec.modalities
            for part in (self.preparation.mean, self.preparation.std):
                for modality, values in part.items():
                    if values.shape != (sizes[modality],):
                        raise ValueError(f"'preparation' does not fit modality {modality!r}")
        except (KeyError, TypeError, ValueError, AttributeError, DataError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise CheckpointError(
                f"{self.path / 'run.json'}: not as FusionKit wrote it: {reason}"
            ) from error

    def write_results(self, results: Mapping[str, Any]) -> None:
        """Store the final numbers."""
        self._write("results.json", results)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        try:
            write_atomically(self.path / name, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise CheckpointError(f"{self.path / name}: cannot be written: {error}") from error

    def _read(self, name: str) -> dict[str, Any]:
        file = self.path / name
        try:
            content = json.loads(file.read_bytes())
        except FileNotFoundError:
            raise CheckpointError(f"{self.path}: not a FusionKit run, {name} is missing") from None
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{file}: cannot be read: {error}") from error
        if not isinstance(content, dict):
            raise CheckpointError(f"{file}: not a FusionKit run")
        return content


def default_path(method: str, data: str, seed: int) -> Path:
    """``runs/METHOD-DATA-seedN-TIME`` below the working directory."""
    label = data.split(":")[0]
    time = datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{method}-{label}-seed{seed}-{time}"


def _provenance() -> dict[str, Any]:
    import torch

    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": sys.argv,
        "versions": {
            "fusionkit": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
