"""Start a run or continue one: data, model, loop, selection by validation, test scores."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from torch import Tensor, nn

from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.formats.samples import write_samples
from fusionkit.data.source import DataConfig, DataSource
from fusionkit.data.store import SequenceStore
from fusionkit.errors import CheckpointError, ConfigError, DataError, MisuseError, suggest
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.protocol import metric_function, predict_store, score
from fusionkit.ops.backends import check_forced
from fusionkit.registry import Method, MethodConfig, registry
from fusionkit.training.checkpoint import load_checkpoint, load_weights
from fusionkit.training.config import TrainConfig
from fusionkit.training.loop import fit, make_fabric, monitor_direction
from fusionkit.training.objective import TaskLoss
from fusionkit.training.result import RunResult
from fusionkit.training.run_folder import RunFolder, default_path
from fusionkit.training.settings import Settings, build_config

_EXAMPLES = 3
_INTERVAL = (
    "95 % percentile bootstrap over the samples of the split (1000 resamples); samples of one "
    "person are alike, so other people may differ more"
)


@dataclass(frozen=True)
class Work:
    """Everything a run is made of, from the command line or from ``run.json``."""

    method: Method
    source: DataSource
    settings: Settings
    data: str
    seed: int
    metrics: MetricSet


def start_run(
    method: Method,
    source: DataSource,
    settings: Settings,
    *,
    data: str,
    seed: int,
    metrics: str,
    out: Path | None,
    device: str,
    callbacks: Sequence[object],
) -> RunResult:
    """Check everything that can be checked, make the folder, train, and score."""
    work = Work(method, source, settings, data, seed, registry().get("metric set", metrics))
    make_fabric(device, settings.train.precision, [], [])
    check_forced()
    dataset = source.load(settings.data)
    method.check(dataset.spec)
    _check_metrics(work, dataset)
    named = _named_callbacks(settings.train)
    _seed_everything(seed)
    model = method.create(settings.model, dataset.spec)
    folder = RunFolder.create(
        out or default_path(method.name, data, seed), _describe(work, dataset)
    )
    return _run(work, dataset, model, folder, device, [*named, *callbacks], resume=False)


def resume_run(path: Path, *, device: str, callbacks: Sequence[object]) -> RunResult:
    """Continue an interrupted run from its last checkpoint.

    Raises:
        MisuseError: it is finished. CheckpointError: a damaged checkpoint, or changed data.
    """
    folder = RunFolder.open(path)
    if folder.results is not None:
        raise MisuseError(f"{path}: the run is finished; see `fusionkit evaluate {path}`")
    work, dataset = open_work(folder)
    _seed_everything(work.seed)
    model = work.method.create(work.settings.model, dataset.spec)
    # Killed before its first checkpoint, a run starts again from its seed.
    resume = any(folder.checkpoints.glob("epoch-*"))
    everything = [*_named_callbacks(work.settings.train), *callbacks]
    return _run(work, dataset, model, folder, device, everything, resume=resume)


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


def _run(
    work: Work,
    dataset: MultimodalDataset,
    model: nn.Module,
    folder: RunFolder,
    device: str,
    callbacks: Sequence[object],
    *,
    resume: bool,
) -> RunResult:
    train = work.settings.train
    fabric = make_fabric(device, train.precision, _loggers(folder), callbacks)
    compute = metric_function(work.metrics, dataset.spec)
    loss = TaskLoss(dataset.spec, train.model_copy(update={"label_smoothing": 0.0}))

    def validate(current: nn.Module) -> dict[str, float]:
        outputs, targets = _outputs(current, dataset.validation, train.batch_size, fabric.device)
        return {"loss": loss(outputs, targets).item(), **compute(outputs, targets)}

    fabric.call("on_run_start", dataset=dataset, folder=folder.path, work=work)
    progress = fit(
        model,
        work.method,
        dataset,
        train,
        fabric=fabric,
        folder=folder.path,
        checkpoints=folder.checkpoints,
        seed=work.seed,
        validate=validate,
        higher_is_better=work.metrics.higher_is_better,
        callbacks=callbacks,
        resume=resume,
    )
    load_weights(model, load_checkpoint(folder.checkpoints, "best")[0], folder.checkpoints)
    scores = {}
    for split in ("validation", "test"):
        store = dataset.split(split)
        outputs, targets = _outputs(model, store, train.batch_size, fabric.device)
        scores[split] = score(work.metrics, dataset.spec, outputs, targets, seed=work.seed)
        _save_predictions(folder.path / f"predictions-{split}.npz", store, outputs, targets)
    examples = dataset.test.select(range(min(_EXAMPLES, len(dataset.test))))
    write_samples(folder.path / "examples.npz", dataset.preparation.invert(examples))
    result = RunResult(
        folder=folder.path,
        method=work.method.name,
        data=work.data,
        seed=work.seed,
        metrics=work.metrics.name,
        best_epoch=progress.best_epoch,
        epochs=progress.epoch,
        selection=_selection_rule(work),
        interval=_INTERVAL,
        validation=scores["validation"],
        test=scores["test"],
        history=progress.history,
        data_sha256=dataset.sha256,
        versions=folder.description["versions"],
    )
    folder.write_results(result.to_json())
    return result


def _outputs(
    model: nn.Module, store: SequenceStore, batch_size: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    outputs = predict_store(model, store, batch_size=batch_size, device=device)
    assert store.targets is not None
    return outputs, torch.from_numpy(store.targets)


def _save_predictions(path: Path, store: SequenceStore, outputs: Tensor, targets: Tensor) -> None:
    try:
        np.savez(path, id=np.asarray(store.ids), outputs=outputs.numpy(), targets=targets.numpy())
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error}") from error


def _describe(work: Work, dataset: MultimodalDataset) -> Mapping[str, Any]:
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
        "selection": _selection_rule(work),
    }


def _with_absolute_path(config: dict[str, Any]) -> dict[str, Any]:
    path = config.get("path")
    return config if path is None else {**config, "path": str(Path(path).resolve())}


def _selection_rule(work: Work) -> str:
    monitor = work.settings.train.monitor
    if monitor == "last":
        return "last epoch; neither validation nor test data choose it"
    higher = monitor_direction(work.settings.train, work.metrics.higher_is_better)
    return (
        f"epoch with the {'highest' if higher else 'lowest'} validation {monitor}; "
        "the test data are looked at once, after it is chosen"
    )


def _check_metrics(work: Work, dataset: MultimodalDataset) -> None:
    """Score zeros, so that metrics that do not fit are found before anything is trained."""
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


def _named_callbacks(config: TrainConfig) -> list[object]:
    return [registry().get("callback", name).build() for name in config.callbacks]


def _seed_everything(seed: int) -> None:
    if not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise MisuseError(f"seed: {seed!r} is no whole number in [0, 2**32)")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _loggers(folder: RunFolder) -> list[Any]:
    loggers: list[Any] = [CSVLogger(folder.logs, name="csv", flush_logs_every_n_steps=1)]
    if find_spec("tensorboard") is not None:
        loggers.append(TensorBoardLogger(folder.logs, name="tensorboard"))
    return loggers
