"""What a run is asked to do: checked, described in ``run.json``, and read back from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.source import DataConfig, DataSource
from fusionkit.errors import CheckpointError, ConfigError, DataError, suggest
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.protocol import metric_function
from fusionkit.registry import Method, MethodConfig, registry
from fusionkit.training.config import TrainConfig
from fusionkit.training.loop import monitor_direction
from fusionkit.training.run_folder import RunFolder
from fusionkit.training.settings import Settings, build_config


@dataclass(frozen=True)
class Work:
    """Everything a run is made of, from the command line or from ``run.json``."""

    method: Method
    source: DataSource
    settings: Settings
    data: str
    seed: int
    metrics: MetricSet


def open_work(folder: RunFolder) -> tuple[Work, MultimodalDataset]:
    """What a run was asked to do, and its data, checked to be the same as then.

    Raises:
        CheckpointError: the data differ, or the run was converted and has none.
    """
    description = folder.description
    asked = description["data"]
    if asked["source"] is None:
        raise CheckpointError(f"{folder.path}: converted weights have no data; only predict works")
    source: DataSource = registry().get("data set", asked["source"])
    method: Method = registry().get("method", description["method"])
    settings = Settings(
        build_config(method.config, description["model"], method.name),
        build_config(TrainConfig, description["train"], "train"),
        build_config(source.config, asked["config"], source.name),
    )
    metrics = registry().get("metric set", description["metrics"])
    work = Work(method, source, settings, asked["name"], description["seed"], metrics)
    dataset: MultimodalDataset = source.load(settings.data)
    if dataset.sha256 != asked["sha256"]:
        raise CheckpointError(
            f"{folder.path}: the data {asked['name']!r} have changed since the run started "
            f"(SHA-256 {dataset.sha256[:12]}, was {asked['sha256'][:12]}); train again"
        )
    return work, dataset


def describe(work: Work, dataset: MultimodalDataset) -> Mapping[str, Any]:
    """Content of ``run.json``: enough to resume, evaluate and predict."""
    entry = registry().entries("method")[work.method.name]
    model: MethodConfig = work.settings.model
    data: DataConfig = work.settings.data
    return {
        "method": work.method.name,
        "distribution": entry.distribution,
        "model": model.model_dump(mode="json"),
        "train": work.settings.train.model_dump(mode="json"),
        "data": {
            "name": work.data,
            "source": work.source.name,
            "config": _with_absolute_path(data.model_dump(mode="json")),
            "sha256": dataset.sha256,
            "split_rule": dataset.split_rule,
            "origin": dataset.source,
        },
        "spec": dataset.spec.to_json(),
        "preparation": dataset.preparation.to_json(),
        "seed": work.seed,
        "metrics": work.metrics.name,
        "selection": selection_rule(work),
    }


def _with_absolute_path(config: dict[str, Any]) -> dict[str, Any]:
    path = config.get("path")
    return config if path is None else {**config, "path": str(Path(path).resolve())}


def selection_rule(work: Work) -> str:
    """How the epoch is chosen, for ``run.json`` and the report."""
    monitor = work.settings.train.monitor
    if monitor == "last":
        return "last epoch; neither validation nor test data choose it"
    higher = monitor_direction(work.settings.train, work.metrics.higher_is_better)
    return (
        f"epoch with the {'highest' if higher else 'lowest'} validation {monitor}; "
        "the test data are looked at once, after it is chosen"
    )


def check_metrics(work: Work, dataset: MultimodalDataset) -> None:
    """Score zeros, so that metrics that do not fit are found before anything is trained.

    Raises:
        ConfigError: the metric set or the monitored value does not exist for these data.
    """
    monitor = work.settings.train.monitor
    monitor_direction(work.settings.train, work.metrics.higher_is_better)
    targets = dataset.validation.targets
    assert targets is not None
    zeros = torch.zeros(len(targets), dataset.spec.num_outputs)
    try:
        values = metric_function(work.metrics, dataset.spec)(zeros, torch.from_numpy(targets))
    except DataError as error:
        raise ConfigError(f"metric set {work.metrics.name!r} does not fit: {error}") from error
    if monitor not in ("loss", "last", *values):
        known = {"loss", "last", *values}
        raise ConfigError(
            f"train.monitor: {monitor!r} is not defined for this task or on these validation "
            f"data{suggest(monitor, known)}"
        )
