"""Start a run or continue one: data, model, loop, selection by validation, test scores."""

from __future__ import annotations

import random
from collections.abc import Sequence
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
from fusionkit.data.source import DataSource
from fusionkit.data.store import SequenceStore
from fusionkit.errors import CheckpointError, MisuseError
from fusionkit.evaluation.protocol import check_samples, metric_function, predict_store, score
from fusionkit.ops.backends import check_forced
from fusionkit.registry import Method, registry
from fusionkit.training.checkpoint import has_checkpoint, load_checkpoint, load_weights
from fusionkit.training.config import TrainConfig
from fusionkit.training.cuda_graph import check_cuda_graph
from fusionkit.training.loop import as_current, fit, make_fabric
from fusionkit.training.objective import TaskLoss
from fusionkit.training.result import RunResult
from fusionkit.training.run_folder import RunFolder, default_path
from fusionkit.training.settings import Settings
from fusionkit.training.work import Work, check_metrics, describe, open_work, selection_rule

_EXAMPLES = 3
_INTERVAL = (
    "95 % percentile bootstrap over the samples of the split (1000 resamples); samples of one "
    "person are alike, so other people may differ more"
)


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
    fabric = make_fabric(device, settings.train.precision, [], [])
    check_forced()
    dataset = source.load(settings.data)
    method.check(dataset.spec)
    check_metrics(work, dataset)
    named = _named_callbacks(settings.train)
    _seed_everything(seed)
    model = method.create(settings.model, dataset.spec)
    for split in ("train", "validation", "test"):
        check_samples(model, dataset.split(split), f"{split} data")
    check_cuda_graph(method, model, settings, dataset.train, fabric.device)
    folder = RunFolder.create(out or default_path(method.name, data, seed), describe(work, dataset))
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
    fabric = make_fabric(device, work.settings.train.precision, [], [])
    check_cuda_graph(work.method, model, work.settings, dataset.train, fabric.device)
    # Killed before its first checkpoint was pointed to, a run starts again from its seed.
    written = {path.name for path in folder.checkpoints.glob("epoch-*")}
    resume = has_checkpoint(folder.checkpoints) or not written <= {"epoch-0001"}
    everything = [*_named_callbacks(work.settings.train), *callbacks]
    return _run(work, dataset, model, folder, device, everything, resume=resume)


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
    with as_current(fabric.device):
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
        selection=selection_rule(work),
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
