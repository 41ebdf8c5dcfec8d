"""The Python interface: list, create, train, evaluate, predict; the command line calls the same."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionkit.data.source import DataSource, Nonfinite
from fusionkit.data.spec import DataSpec
from fusionkit.errors import ConfigError
from fusionkit.registry import Method, registry
from fusionkit.training.settings import Settings, build_config, find_method, resolve

if TYPE_CHECKING:
    from torch import nn

    from fusionkit.data.dataset import MultimodalDataset, Split
    from fusionkit.data.store import SequenceStore
    from fusionkit.evaluation.protocol import Score
    from fusionkit.training.inference import Predictions
    from fusionkit.training.result import RunResult


def list_methods(pattern: str = "*") -> list[str]:
    """Names of the registered methods that match a shell pattern such as ``"mm*"``."""
    return fnmatch.filter(registry().names("method"), pattern)


def list_datasets(pattern: str = "*") -> list[str]:
    """Names of the registered data sources that match a shell pattern."""
    return fnmatch.filter(registry().names("data set"), pattern)


def list_metrics(pattern: str = "*") -> list[str]:
    """Names of the registered metric sets that match a shell pattern."""
    return fnmatch.filter(registry().names("metric set"), pattern)


def create(method: str, spec: DataSpec, **options: Any) -> nn.Module:
    """Build a method's model.

    Args:
        method: registered name, or ``unimodal:MODALITY``. spec: modalities and task.
        options: fields of the method's configuration.

    Returns:
        A module that maps a `MultimodalBatch` to (B, spec.num_outputs).

    Raises:
        UnknownNameError, ConfigError, DataError: with the nearest name or the field.
    """
    found, options = find_method(method, options)
    return found.create(build_config(found.config, options, found.name), spec)


def load_data(data: str, **options: Any) -> MultimodalDataset:
    """Read a data set as ``--data`` names it: ``NAME`` or ``NAME:PATH``."""
    source, path = data_source(data)
    values = options if path is None else {**options, "path": path}
    dataset: MultimodalDataset = source.load(build_config(source.config, values, source.name))
    return dataset


def train(
    method: str | None = None,
    data: str = "watch",
    *,
    seed: int = 0,
    preset: str | None = None,
    recipe: str | None = None,
    config: Path | str | None = None,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    metrics: str = "default",
    out: Path | str | None = None,
    device: str = "auto",
    cuda_graph: bool = False,
    resume: Path | str | None = None,
    callbacks: Sequence[object] = (),
) -> RunResult:
    """Train a method, select the epoch on validation data, score it on the test data.

    Args:
        method: registered name, or ``unimodal:MODALITY`` (not needed with ``resume``).
        data: ``NAME`` or ``NAME:PATH``.
        seed: of initialisation, order and dropout. preset, config: named or YAML options.
        recipe: name in `fusionkit.training.recipes`, in place of the method's own training options.
        model, train, data_options: options by section, stronger than preset and file.
        metrics: name of a metric set. out: new folder (default: ``runs/...``).
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cuda_graph: capture the training step and replay it: ``train={"cuda_graph": True}``.
        resume: folder of an interrupted run to continue; everything else comes from it.
        callbacks: objects with any of the methods that `fusionkit.Callback` lists.

    Raises:
        FusionKitError: one of its kinds, with the field or file and the way out.
    """
    from fusionkit.training.run import resume_run, start_run

    if resume is not None:
        given = (method, preset, recipe, config, model, train, data_options, out, cuda_graph)
        if any(given):
            raise ConfigError("resume takes everything from the run; leave the other options out")
        return resume_run(Path(resume), device=device, callbacks=callbacks)
    if method is None:
        raise ConfigError("name a method to train, or a run to --resume")
    found, model = find_method(method, model)
    source, path = data_source(data)
    if cuda_graph:
        train = {**(train or {}), "cuda_graph": True}
    overrides = {"model": model, "train": train or {}, "data": data_options or {}}
    settings: Settings = resolve(
        found,
        source,
        path=path,
        preset=preset,
        recipe=recipe,
        file=None if config is None else Path(config),
        overrides=overrides,
    )
    return start_run(
        found,
        source,
        settings,
        data=data,
        seed=seed,
        metrics=metrics,
        out=None if out is None else Path(out),
        device=device,
        callbacks=callbacks,
    )


def evaluate(
    run: Path | str,
    *,
    split: Split = "test",
    metrics: str | None = None,
    device: str = "auto",
) -> dict[str, Score]:
    """Score a run's selected weights again: other metrics, another split, another machine.

    Raises:
        CheckpointError: the run is incomplete, or the data are not those it was trained on.
    """
    from fusionkit.training.inference import evaluate_run

    return evaluate_run(Path(run), split=split, metrics=metrics, device=device)


def predict(
    run: Path | str,
    samples: Path | str | SequenceStore,
    *,
    device: str = "auto",
    nonfinite: Nonfinite = "error",
) -> Predictions:
    """Outputs of a run's selected weights for new samples.

    Args:
        samples: an ``.npz`` file with the run's modalities, or raw sequences.
        nonfinite: refuse NaN and infinite features in a file, or set them to 0 with a warning.

    Returns:
        `fusionkit.training.inference.Predictions`: ids, raw outputs (N, num_outputs), and for a
        classification the class names and probabilities.
    """
    from fusionkit.training.inference import predict_run

    source = Path(samples) if isinstance(samples, (str, Path)) else samples
    return predict_run(Path(run), source, device=device, nonfinite=nonfinite)


def data_source(data: str) -> tuple[DataSource, str | None]:
    """The source and path that ``NAME`` or ``NAME:PATH`` means."""
    name, separator, path = data.partition(":")
    source: DataSource = registry().get("data set", name)
    if separator and not path:
        raise ConfigError(f"--data {data!r}: a path must follow the colon")
    return source, path if separator else None


def convert_checkpoint(
    method: str, checkpoint: Path | str, out: Path | str, **options: Any
) -> Path:
    """Turn an official state dictionary into a run folder that `predict` takes.

    Raises:
        CheckpointError: it is not the official model's, or is no plain state dictionary.
        ConfigError: the method has no converter.
    """
    from fusionkit.training.convert import convert

    found: Method = registry().get("method", method)
    if found.convert_checkpoint is None:
        raise ConfigError(f"{method} has no converter for official checkpoints")
    return convert(found, Path(checkpoint), Path(out), options)
