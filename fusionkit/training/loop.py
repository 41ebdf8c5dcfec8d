"""The training loop: short, ours, on Lightning Fabric; one for every method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.loader import make_loader
from fusionkit.errors import CheckpointError, ConfigError, UnknownNameError
from fusionkit.registry.method import Method
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    load_weights,
    random_states,
    restore_random_states,
    save_checkpoint,
)
from fusionkit.training.config import TrainConfig
from fusionkit.training.cuda_graph import GraphedSteps, graphed_epoch, longest_steps
from fusionkit.training.epoch import Trainer, train_epoch
from fusionkit.training.objective import Schedule, TaskLoss, TrainingModule, build_optimizer
from fusionkit.training.parameter_groups import main_parameters

Validate = Callable[[nn.Module], dict[str, float]]


@dataclass
class FitState:
    """What callbacks see."""

    fabric: Fabric
    model: nn.Module
    folder: Path
    total_epochs: int
    batches_per_epoch: int
    progress: TrainingState


def fit(
    model: nn.Module,
    method: Method,
    dataset: MultimodalDataset,
    config: TrainConfig,
    *,
    fabric: Fabric,
    folder: Path,
    checkpoints: Path,
    seed: int,
    validate: Validate,
    higher_is_better: Mapping[str, bool],
    resume: bool = False,
) -> TrainingState:
    """Train until the epochs or the patience are used up, saving a checkpoint after every epoch.

    A run that was killed and resumed ends with the same bits as one that was not: everything
    random is keyed by the seed and the epoch, or restored from the checkpoint.

    Args:
        validate: gives the validation values of the model, with ``loss`` among them.
        higher_is_better: direction of every value that ``config.monitor`` may name.
        fabric: its callbacks may have any of ``on_fit_start``, ``on_epoch_start``,
            ``on_batch_end``, ``on_epoch_end`` and ``on_fit_end``, called with ``state=FitState``.

    Raises:
        UnknownNameError: no such value to monitor. FusionKitError: the loss is not finite.
        PluginError: the method's auxiliary objectives or parameter groups cannot be.
    """
    higher = monitor_direction(config, higher_is_better)
    auxiliary = Auxiliary(method, model)
    loss = TaskLoss(dataset.spec, config)
    module, optimizer, *others = fabric.setup(
        TrainingModule(model, method, loss, auxiliary.objectives),
        build_optimizer(
            main_parameters(method, model, auxiliary, config),
            config,
            capturable=config.cuda_graph and fabric.device.type == "cuda",
        ),
        *auxiliary.optimizers,
    )
    trainer = Trainer(fabric, module, optimizer, dict(zip(auxiliary.objectives, others)), auxiliary)
    loader = make_loader(dataset.train, config.batch_size, shuffle=True, seed=seed)
    schedule = Schedule(
        optimizer.optimizer,
        config,
        math.ceil(len(loader) / config.accumulate),
        [trainer.others[n].optimizer for n, o in auxiliary.objectives.items() if o.scheduled],
    )
    memory = None if method.memory is None else method.memory(model)
    if memory is not None:
        memory.start(dataset.train.ids, torch.from_numpy(dataset.train.targets))
    progress = TrainingState()
    if resume:
        weights, saved, progress = load_checkpoint(checkpoints)
        load_weights(model, weights, checkpoints)
        try:
            optimizer.load_state_dict(saved["optimizer"])
            for name, other in trainer.others.items():
                other.load_state_dict(saved["auxiliary"][name])
            if memory is not None:
                memory.load_state_dict(saved["memory"])
            schedule.load_state_dict(saved["schedule"])
            fabric.strategy.precision.load_state_dict(saved["precision"])
            restore_random_states(saved["random"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"{checkpoints}: the training state is that of another run: {error}"
            ) from error
    # After the optimizer has its state: graphs hold the addresses.
    graphs = None
    if config.cuda_graph:
        graphs = GraphedSteps(trainer, config, longest_steps(dataset.train))
    state = FitState(fabric, model, folder, config.epochs, len(loader), progress)
    fabric.call("on_fit_start", state=state)
    while not (progress.stopped or progress.epoch >= config.epochs):
        started = time.monotonic()
        fabric.call("on_epoch_start", state=state)
        loader.batch_sampler.set_epoch(progress.epoch)
        if memory is not None:
            memory.start_epoch(progress.epoch + 1)
        epoch = progress.epoch + 1

        def after_batch() -> None:
            fabric.call("on_batch_end", state=state)

        if graphs is not None:
            losses = graphed_epoch(graphs, loader, schedule, epoch=epoch, after_batch=after_batch)
        else:
            losses = train_epoch(
                trainer, loader, schedule, config, epoch=epoch, after_batch=after_batch
            )
        model.eval()
        values = validate(model)
        schedule.after_epoch(values["loss"])
        record = {
            "epoch": float(progress.epoch + 1),
            **{f"train_{name}": value for name, value in losses.items()},
            **{f"validation_{name}": value for name, value in values.items()},
            "learning_rate": float(optimizer.param_groups[0]["lr"]),
            "seconds": time.monotonic() - started,
        }
        progress = _advance(progress, record, config, higher)
        save_checkpoint(
            checkpoints,
            model.state_dict(),
            {
                "optimizer": optimizer.state_dict(),
                "auxiliary": {name: other.state_dict() for name, other in trainer.others.items()},
                "memory": {} if memory is None else memory.state_dict(),
                "schedule": schedule.state_dict(),
                "precision": fabric.strategy.precision.state_dict(),
                "random": random_states(),
            },
            progress,
        )
        state.progress = progress
        fabric.log_dict(record, step=progress.epoch)
        fabric.call("on_epoch_end", state=state)
    fabric.call("on_fit_end", state=state)
    return progress


def monitor_direction(config: TrainConfig, higher_is_better: Mapping[str, bool]) -> bool:
    """Whether more of the monitored value is better.

    Raises:
        UnknownNameError: there is no such value.
    """
    directions = {"loss": False, "last": True, **higher_is_better}
    if config.monitor not in directions:
        raise UnknownNameError("train.monitor", config.monitor, directions)
    return directions[config.monitor]


def _advance(
    progress: TrainingState, record: dict[str, float], config: TrainConfig, higher: bool
) -> TrainingState:
    last = config.monitor == "last"
    key = f"validation_{config.monitor}"
    value = float(progress.epoch) if last else record.get(key, math.nan)
    best = progress.best_value
    better = not math.isnan(value) and (best is None or (value > best if higher else value < best))
    epoch = progress.epoch + 1
    best_epoch = epoch if better or progress.best_epoch == 0 else progress.best_epoch
    waited = epoch - best_epoch
    return TrainingState(
        epoch=epoch,
        history=[*progress.history, record],
        best_epoch=best_epoch,
        best_value=value if better else best,
        stopped=config.patience is not None and waited >= config.patience,
    )


def as_current(device: torch.device) -> AbstractContextManager[object]:
    """Where pinned memory and new streams are for a CUDA device; otherwise they are for cuda:0."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def make_fabric(device: str, precision: str, loggers: Sequence[Any], callbacks: Any) -> Fabric:
    """Fabric on one device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.

    Raises:
        ConfigError: the device is not there, or not known.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and not index.isdigit()):
        raise ConfigError(f"device: {device!r} is none of auto, cpu, cuda, cuda:N, mps")
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=[int(index)] if index else 1,
            precision=precision,  # type: ignore[arg-type]
            loggers=list(loggers),
            callbacks=list(callbacks),
        )
    except Exception as error:
        raise ConfigError(f"device {device!r} cannot be used: {error}") from error
    if precision == "16-mixed" and fabric.device.type == "cpu":
        raise ConfigError("train.precision: 16-mixed needs a GPU; take bf16-mixed on the CPU")
    return fabric
