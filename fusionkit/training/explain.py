"""What a finished run's model says about one sample: the arrays of ``model.explain(batch)``.

A model may have ``explain(batch) -> dict[str, Tensor]``: for each name, such as ``mask of text``,
an array (B, T, D) of values in [0, 1] over time and features.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fusionkit.data.dataset import Split
from fusionkit.data.formats.samples import read_samples
from fusionkit.data.source import Nonfinite
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import CheckpointError, ConfigError, MisuseError, PluginError
from fusionkit.evaluation.protocol import predict_store
from fusionkit.registry import Method, registry
from fusionkit.training.inference import Predictions, load_model
from fusionkit.training.loop import make_fabric
from fusionkit.training.run_folder import RunFolder
from fusionkit.training.work import open_work


@dataclass(frozen=True)
class Explanation:
    """What a model says about one sample.

    Args:
        method: registered name. sample: id. origin: the split or the name of the samples' file.
        arrays: name -> (T, D) float32 in [0, 1].
        target: class, labels or values as text, None where they are not known.
        prediction: the same of the model's output.
    """

    method: str
    sample: str
    origin: str
    arrays: Mapping[str, NDArray[np.float32]]
    target: str | None
    prediction: str


def explain_run(
    path: Path,
    sample: str | None = None,
    *,
    split: Split = "test",
    samples: Path | None = None,
    device: str = "auto",
    nonfinite: Nonfinite = "error",
) -> Explanation:
    """Ask a run's selected weights about one sample.

    Args:
        path: run folder.
        sample: id; None where there is only one sample.
        split: of the run's own data. samples: an ``.npz`` as for `predict_run` instead of them.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. nonfinite: of ``samples``.

    Raises:
        ConfigError: the method has nothing to show. MisuseError: no such sample.
        CheckpointError: no such run, or its data changed. PluginError: the model's arrays are
            not as the module says.
    """
    folder = RunFolder.open(path)
    spec = folder.spec
    method: Method = registry().get("method", folder.description["method"])
    model = load_model(folder, method, spec)
    if not hasattr(model, "explain"):
        known = ", ".join(_methods_that_explain(spec)) or "none"
        raise ConfigError(
            f"{path}: method {method.name!r} has no masks to show; methods that have some for "
            f"such data: {known}"
        )
    store = _store(folder, spec, split, samples, nonfinite)
    where = f"{path}: {split} data" if samples is None else str(samples)
    chosen = store.select([_index(store, sample, where)])
    device_found = make_fabric(device, "32-true", [], []).device
    outputs = predict_store(model.to(device_found), chosen, batch_size=1, device=device_found)
    return Explanation(
        method=method.name,
        sample=chosen.ids[0],
        origin=split if samples is None else samples.stem,
        arrays=_arrays(model.eval(), chosen, device_found, method.name),
        target=_target(chosen, spec),
        prediction=Predictions(list(chosen.ids), outputs, spec.task, spec.class_names).labels[0],
    )


def _store(
    folder: RunFolder, spec: DataSpec, split: Split, samples: Path | None, nonfinite: Nonfinite
) -> SequenceStore:
    if samples is not None:
        return read_samples(samples, spec, folder.preparation, nonfinite=nonfinite)
    if folder.description["data"]["source"] is None:
        raise CheckpointError(
            f"{folder.path}: converted weights have no data; give --samples FILE.npz"
        )
    return open_work(folder)[1].split(split)


def _index(store: SequenceStore, sample: str | None, where: str) -> int:
    ids = list(store.ids)
    if sample in ids:
        return ids.index(sample)
    if sample is None:
        if len(ids) == 1:
            return 0
        some = ", ".join(ids[:3])
        raise MisuseError(f"{where}: {len(ids)} samples; choose one with --sample, such as {some}")
    near = difflib.get_close_matches(sample, ids, n=3, cutoff=0.4)
    hint = (
        f"nearest: {', '.join(near)}" if near else f"there are, for example, {', '.join(ids[:3])}"
    )
    raise MisuseError(f"{where}: no sample {sample!r}; {hint}")


def _methods_that_explain(spec: DataSpec) -> list[str]:
    """Methods whose model for such data has something to show; built without memory or numbers."""
    found = []
    for name, entry in registry().entries("method").items():
        method: Method = entry.value
        try:
            with torch.device("meta"):
                model = method.create(method.config(), spec)
        except Exception:  # it cannot take such data, or not with its defaults
            continue
        if hasattr(model, "explain"):
            found.append(name)
    return found


def _arrays(
    model: Any, store: SequenceStore, device: torch.device, method: str
) -> dict[str, NDArray[np.float32]]:
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    with torch.inference_mode():
        found = model.explain(store.batch([0]).to(device, dtype))
    if not isinstance(found, Mapping) or not found:
        raise PluginError(f"method {method!r}: explain gives nothing")
    arrays = {}
    for name, array in found.items():
        if not isinstance(array, Tensor) or array.dim() != 3 or len(array) != 1:
            raise PluginError(f"method {method!r}: explain gives {name!r}, which is not (B, T, D)")
        if not bool(((array >= 0) & (array <= 1)).all()):
            raise PluginError(
                f"method {method!r}: explain gives {name!r} with values not in [0, 1]"
            )
        arrays[str(name)] = array[0].float().cpu().numpy()
    return arrays


def _target(store: SequenceStore, spec: DataSpec) -> str | None:
    if store.targets is None:
        return None
    values = np.atleast_1d(store.targets[0])
    if spec.task == "regression":
        return " ".join(f"{value:.4f}" for value in values)
    names = spec.class_names or tuple(str(k) for k in range(spec.num_outputs))
    if spec.task == "classification":
        return names[int(values[0])]
    return " ".join(name for name, on in zip(names, values) if on > 0)
