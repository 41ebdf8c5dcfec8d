"""The Python interface: list, create, train, evaluate, predict, compare, ablate.

The command line calls the same.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusionkit.data.source import DataSource, Nonfinite
from fusionkit.data.spec import DataSpec
from fusionkit.errors import ConfigError
from fusionkit.registry import Method, registry
from fusionkit.training.settings import Settings, build_config, find_method, resolve
from fusionkit.training.variants import (
    Variant,
    ablated_variants,
    compared_variants,
    default_folder,
    parse_seeds,
)

if TYPE_CHECKING:
    from torch import nn

    from fusionkit.data.dataset import MultimodalDataset, Split
    from fusionkit.data.store import SequenceStore
    from fusionkit.evaluation.protocol import Score
    from fusionkit.training.comparison import Comparison
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
        resume: folder of an interrupted run to continue; everything else comes from it.
        callbacks: objects with any of the methods that `fusionkit.Callback` lists.

    Raises:
        FusionKitError: one of its kinds, with the field or file and the way out.
    """
    from fusionkit.training.run import resume_run, start_run

    if resume is not None:
        if method or preset or recipe or config or model or train or data_options or out:
            raise ConfigError("resume takes everything from the run; leave the other options out")
        return resume_run(Path(resume), device=device, callbacks=callbacks)
    if method is None:
        raise ConfigError("name a method to train, or a run to --resume")
    found, model = find_method(method, model)
    source, path = data_source(data)
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


def compare(
    methods: Sequence[str],
    data: str = "watch",
    *,
    seeds: str | Sequence[int] = "0-4",
    recipe: str | None = "default",
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    metrics: str = "default",
    metric: str | None = None,
    baseline: str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
    callbacks: Sequence[object] = (),
) -> Comparison:
    """Train every method with every seed on the same data, and compare the test scores.

    The folder ``out`` has a run a method and seed; finished runs are not repeated, interrupted ones
    are continued. ``results.json`` and ``table.md`` there hold the table.

    Args:
        methods: ``METHOD[:MODALITY][,OPTION=VALUE...]`` each. data: ``NAME`` or ``NAME:PATH``.
        seeds: ``"0-4"``, or the numbers. recipe: how all are trained; None: as each prefers.
        model, train, data_options: options of all methods, by section.
        metrics, metric: metric set, and the one to compare (default: its first for the task).
        baseline: the method that the others are compared with, written like them (default: the
            best single modality by validation). out: folder (default: one for these options).
        device, jobs: of the runs, and how many at a time. tell: gets one line a run.
        callbacks: of every run, where ``jobs`` is 1.

    Raises:
        FusionKitError: something does not fit; found before anything is trained.
    """
    source, path = data_source(data)
    overrides = {"model": model or {}, "train": train or {}, "data": data_options or {}}

    variants, baseline = compared_variants(
        methods, baseline, source, path=path, recipe=recipe, overrides=overrides
    )
    return _experiment(
        variants, source, data, title=f"comparison on {data}", kind="compare", seeds=seeds,
        recipe=recipe, metrics=metrics, metric=metric, baseline=baseline, out=out, device=device,
        jobs=jobs, tell=tell, callbacks=callbacks,
    )  # fmt: skip


def ablate(
    method: str,
    data: str = "watch",
    *,
    seeds: str | Sequence[int] = "0-4",
    recipe: str | None = None,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    data_options: Mapping[str, Any] | None = None,
    metrics: str = "default",
    metric: str | None = None,
    out: Path | str | None = None,
    device: str = "auto",
    jobs: int = 1,
    tell: Callable[[str], None] = lambda line: None,
    callbacks: Sequence[object] = (),
) -> Comparison:
    """Compare a method with itself, each time without one of its parts (`Method.ablations`).

    Args:
        method: ``METHOD[,OPTION=VALUE...]``; the rest as in `compare`.

    Raises:
        ConfigError: the method names no ablations, or the options switch a part off already.
    """
    source, path = data_source(data)
    overrides = {"model": model or {}, "train": train or {}, "data": data_options or {}}
    variants = ablated_variants(method, source, path=path, recipe=recipe, overrides=overrides)
    full = variants[0]
    return _experiment(
        variants, source, data, title=f"ablation of {full.label} on {data}", kind="ablate",
        seeds=seeds, recipe=recipe, metrics=metrics, metric=metric, baseline=full.label, out=out,
        device=device, jobs=jobs, tell=tell, callbacks=callbacks,
    )  # fmt: skip


def _experiment(
    variants: Sequence[Variant],
    source: DataSource,
    data: str,
    *,
    title: str,
    kind: str,
    seeds: str | Sequence[int],
    out: Path | str | None,
    tell: Callable[[str], None],
    callbacks: Sequence[object],
    **options: Any,
) -> Comparison:
    from fusionkit.report.comparison_table import write_comparison
    from fusionkit.training.experiment import Experiment, run_experiment

    text = seeds if isinstance(seeds, str) else ",".join(map(str, seeds))
    experiment = Experiment(
        title=title,
        folder=default_folder(kind, data, variants) if out is None else Path(out),
        variants=tuple(variants),
        seeds=parse_seeds(text),
        source=source,
        data=data,
        **options,
    )
    comparison = run_experiment(experiment, tell=tell, callbacks=callbacks)
    write_comparison(experiment.folder, comparison)
    return comparison
