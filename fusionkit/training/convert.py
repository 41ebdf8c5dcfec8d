"""Official checkpoints as run folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fusionkit.data.preparation import Preparation
from fusionkit.data.spec import DataSpec
from fusionkit.errors import CheckpointError, ConfigError
from fusionkit.registry import Method
from fusionkit.training.checkpoint import (
    TrainingState,
    load_weights,
    random_states,
    save_checkpoint,
)
from fusionkit.training.run_folder import RunFolder
from fusionkit.training.settings import build_config

_WRAPPERS = ("state_dict", "model_state_dict", "model")


def convert(method: Method, checkpoint: Path, out: Path, options: Mapping[str, Any]) -> Path:
    """Read, rename, check against the model, and store as a run that `predict` takes.

    Args:
        options: configuration fields that override what the converter infers.
    """
    assert method.convert_checkpoint is not None
    converted = method.convert_checkpoint(read_state_dict(checkpoint))
    try:
        config = build_config(method.config, {**converted.config, **options}, method.name)
    except ConfigError as error:
        raise ConfigError(
            f"{error}; what the weights do not tell has its default: give the original's own "
            "values with --set KEY=VALUE"
        ) from None
    spec = DataSpec.from_json(
        {
            "modalities": converted.modalities,
            "task": converted.task,
            "num_outputs": converted.num_outputs,
            "aligned": True,
            "class_names": [],
        }
    )
    model = method.create(config, spec)
    load_weights(model, converted.state_dict, checkpoint)
    description = {
        "method": method.name,
        "model": config.model_dump(mode="json"),
        "train": {},
        "data": {"name": None, "source": None, "converted_from": checkpoint.name},
        "spec": spec.to_json(),
        "preparation": Preparation().to_json(),
        "seed": 0,
        "metrics": "default",
    }
    folder = RunFolder.create(out, description)
    state = TrainingState(epoch=1, best_epoch=1, stopped=True)
    save_checkpoint(folder.checkpoints, model.state_dict(), {"random": random_states()}, state)
    return folder.path


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A plain state dictionary from a ``.pt`` or ``.safetensors`` file; runs no code from it.

    Wrappers such as ``{"state_dict": ...}`` and a ``module.`` prefix are taken off.

    Raises:
        CheckpointError: no such file, or it holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            import safetensors.torch

            content: Any = safetensors.torch.load(path.read_bytes())
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # damaged files make the readers raise nearly anything
        raise CheckpointError(
            f"{path}: not a plain state dictionary of tensors ({type(error).__name__}); in the "
            "original code, save model.state_dict() with torch.save"
        ) from error
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if key in content), None)
        if not isinstance(inner, Mapping):
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path}: holds no state dictionary")
    wrong = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if wrong:
        raise CheckpointError(f"{path}: {wrong[0]!r} is no tensor")
    return {str(name).removeprefix("module."): value for name, value in content.items()}
