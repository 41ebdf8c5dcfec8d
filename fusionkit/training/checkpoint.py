"""Checkpoints that survive a kill or a full disk: written aside, then renamed.

A checkpoint is a folder ``epoch-0007`` with ``model.safetensors`` (weights), ``training.pt``
(optimizer, schedule, random generators; read with ``weights_only=True``) and ``state.json``
(epoch, history, SHA-256 of both). ``checkpoints.json`` names the last and the best one and is
replaced in one step after the folder is complete.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import random
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from fusionkit.errors import CheckpointError

_POINTER = "checkpoints.json"
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    safetensors.SafetensorError,
)
_WEIGHTS, _TRAINING, _STATE = "model.safetensors", "training.pt", "state.json"


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands after an epoch.

    Args:
        epoch: finished epochs. history: one record an epoch. best_epoch: 1-based.
        best_value: monitored value there. stopped: early stopping has ended the run.
    """

    epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    best_value: float | None = None
    stopped: bool = False


def save_checkpoint(
    folder: Path, weights: Mapping[str, Tensor], training: Mapping[str, Any], state: TrainingState
) -> None:
    """Write a checkpoint, point to it, and drop all but the last and the best.

    Raises:
        CheckpointError: it could not be written; what was there before stays.
    """
    name = f"epoch-{state.epoch:04d}"
    aside = folder / f".writing-{name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        # Tied weights share memory, which safetensors refuses: each name gets its own copy.
        own = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
        files = {_WEIGHTS: safetensors.torch.save(own), _TRAINING: _torch_bytes(training)}
        hashes = {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}
        files[_STATE] = json.dumps({**asdict(state), "sha256": hashes}, indent=1).encode()
        for file, content in files.items():
            _write(aside / file, content)
        final = folder / name
        if final.exists():
            shutil.rmtree(final)
        os.replace(aside, final)
        pointer = {"last": name, "best": f"epoch-{state.best_epoch:04d}"}
        write_atomically(folder / _POINTER, json.dumps(pointer).encode())
    except OSError as error:
        shutil.rmtree(aside, ignore_errors=True)
        kept = _pointer(folder).get("last", "none") if (folder / _POINTER).exists() else "none"
        raise CheckpointError(
            f"{folder / name}: could not be saved: {error.strerror or error}; the previous "
            f"checkpoint ({kept}) is intact: free some space and continue with --resume"
        ) from error
    for old in folder.glob("epoch-*"):
        if old.name not in pointer.values():
            shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(
    folder: Path, which: str = "last"
) -> tuple[dict[str, Tensor], dict[str, Any], TrainingState]:
    """Weights, training state and progress of the ``last`` or ``best`` checkpoint.

    Raises:
        CheckpointError: there is none, or it is truncated, changed or foreign.
    """
    path = folder / _pointer(folder)[which]
    try:
        state = json.loads((path / _STATE).read_bytes())
        hashes = state.pop("sha256")
        contents = {file: (path / file).read_bytes() for file in (_WEIGHTS, _TRAINING)}
        for file, content in contents.items():
            if hashlib.sha256(content).hexdigest() != hashes[file]:
                raise CheckpointError(
                    f"{path / file}: truncated or changed since it was saved; "
                    "restore it from a copy or train again"
                )
        weights = safetensors.torch.load(contents[_WEIGHTS])
        training = torch.load(io.BytesIO(contents[_TRAINING]), weights_only=True)
        return weights, training, TrainingState(**state)
    except _UNREADABLE as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: not a complete FusionKit checkpoint: {reason}") from error


def has_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint was completed: written and pointed to."""
    return (folder / _POINTER).exists()


def load_weights(model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Put a checkpoint's weights into a model.

    Raises:
        CheckpointError: names or shapes are those of another model.
    """
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise CheckpointError(
            f"{folder}: the weights are those of another model or configuration: {lines[-1][:200]}"
        ) from error


def random_states() -> dict[str, Any]:
    """State of every generator that training may draw from."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [kind, np.asarray(keys).tolist(), position, has_gauss, cached],
        "python": list(map(_as_list, random.getstate())),
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """The inverse of `random_states`."""
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() > 0:
        torch.cuda.set_rng_state_all(states["cuda"])
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, np.asarray(keys, np.uint32), position, has_gauss, cached))
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file in one step: readers see the old or the new one, never a part."""
    aside = path.with_name(f".writing-{path.name}")
    _write(aside, content)
    os.replace(aside, path)


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _torch_bytes(content: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def _pointer(folder: Path) -> dict[str, str]:
    path = folder / _POINTER
    try:
        pointer = json.loads(path.read_bytes())
        return {"last": str(pointer["last"]), "best": str(pointer["best"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: no checkpoint there: {error}") from error


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
