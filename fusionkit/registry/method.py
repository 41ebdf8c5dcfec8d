"""What a plugin registers to add a fusion method or a training callback."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from fusionkit.errors import ConfigError, DataError, FusionKitError, PluginError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit.data.batch import MultimodalBatch
    from fusionkit.data.spec import DataSpec

ALL_TASKS = frozenset({"regression", "classification", "multilabel"})


class MethodConfig(BaseModel):
    """Base of a method's configuration: unknown keys are errors, values do not change later."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """An official checkpoint in FusionKit's terms.

    Args:
        config: keyword arguments of the method's configuration.
        modalities: name -> feature size.
        num_outputs: size of the model's output.
        state_dict: parameters under FusionKit's names.
        task: what the official model does.
    """

    config: Mapping[str, Any]
    modalities: Mapping[str, int]
    num_outputs: int
    state_dict: Mapping[str, Tensor]
    task: str = "regression"


@dataclass(frozen=True)
class AuxiliaryObjective:
    """A second objective, with parameters and an Adam optimizer of its own.

    The main optimizer leaves these parameters alone, and the main loss gives them no gradient; the
    auxiliary loss gives the others none.

    Args:
        name: in the checkpoint and the history (``train_NAME``, the mean loss of an epoch).
        parameters: model -> its parameters; objectives may not share any.
        loss: (model, batch) -> loss to minimise.
        learning_rate, weight_decay: of its optimizer. clip_norm: largest norm of the gradient.
        when: ``step``: on every batch, before the main step; ``epoch``: over all training batches,
            before the main steps of an epoch.
        scheduled: its rate rises and falls with the main one, as ``train.scheduler`` says.
    """

    name: str
    parameters: Callable[[nn.Module], Iterable[nn.Parameter]]
    loss: Callable[[nn.Module, MultimodalBatch], Tensor]
    learning_rate: float
    weight_decay: float = 0.0
    clip_norm: float | None = None
    when: Literal["step", "epoch"] = "step"
    scheduled: bool = False


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that the main optimizer trains with a rate or a weight decay of their own.

    Args:
        name: in error messages; every group has its own.
        parameters: of the model; none may be in two groups or in an `AuxiliaryObjective`. Those
            that need no gradient are left out.
        learning_rate: > 0, relative to ``train.learning_rate``. Schedules keep the ratio.
        weight_decay: >= 0; None for ``train.weight_decay``.
    """

    name: str
    parameters: Iterable[nn.Parameter]
    learning_rate: float = 1.0
    weight_decay: float | None = None


class TrainingMemory(Protocol):
    """What a method remembers from one training step to the next; part of every checkpoint."""

    def start(self, ids: Sequence[str], targets: Tensor) -> None:
        """Called once, before training or resuming, with all training samples."""

    def start_epoch(self, epoch: int) -> None:
        """Called before every epoch, counted from 1."""

    def state_dict(self) -> dict[str, Tensor]:
        """All that has to survive a kill."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a checkpoint; comes after `start`."""


@dataclass(frozen=True)
class Method:
    """A fusion method.

    Args:
        name: as in ``fusionkit train NAME``.
        summary: one line for ``fusionkit list``.
        config: pydantic configuration; its defaults are the method's defaults.
        build: (config, spec) -> module that maps a `MultimodalBatch` to outputs
            (B, spec.num_outputs): logits, or values of a regression.
        paper: title, venue and year. citation: BibTeX.
        min_modalities, max_modalities: how many the method can fuse (None: any number).
        roles: modality names that the data must have (for example ``language``).
        tasks: what the method can be trained for.
        training_step: (model, batch, task_loss) -> loss to minimise, where ``task_loss(outputs,
            targets)`` is the harness's; None for the task loss of the model's output.
        auxiliary: model -> objectives that are trained in alternation with it.
        parameter_groups: model -> `ParameterGroup`s; parameters in none have the training options'
            learning rate and weight decay.
        memory: model -> its `TrainingMemory`; ``training_step`` reads and writes it.
        train_defaults: training options that the method prefers to the harness's defaults.
        presets: name -> {"model": ..., "train": ..., "data": ...}, chosen by ``--preset NAME``.
        ablations: name of a variant -> options of the model that switch a part off, for
            ``fusionkit ablate``.
        traceable: False where the forward pass depends on values (lengths, say) in a way that
            `torch.compile` cannot put into one graph, on aligned data too.
        convert_checkpoint: official state dict -> `ConvertedCheckpoint`.
    """

    name: str
    summary: str
    config: type[MethodConfig]
    build: Callable[[Any, DataSpec], nn.Module]
    paper: str = ""
    citation: str = ""
    min_modalities: int = 2
    max_modalities: int | None = None
    roles: tuple[str, ...] = ()
    tasks: frozenset[str] = ALL_TASKS
    training_step: (
        Callable[[nn.Module, MultimodalBatch, Callable[[Tensor, Tensor], Tensor]], Tensor] | None
    ) = None
    auxiliary: Callable[[nn.Module], Sequence[AuxiliaryObjective]] | None = None
    parameter_groups: Callable[[nn.Module], Sequence[ParameterGroup]] | None = None
    memory: Callable[[nn.Module], TrainingMemory] | None = None
    train_defaults: Mapping[str, Any] = field(default_factory=dict)
    presets: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    traceable: bool = True
    convert_checkpoint: Callable[[Mapping[str, Tensor]], ConvertedCheckpoint] | None = None

    def create(self, config: MethodConfig, spec: DataSpec) -> nn.Module:
        """Check the data and build the model.

        Raises:
            DataError, ConfigError: as `check`. PluginError: the plugin's own code failed.
        """
        self.check(spec)
        _check_names(spec)
        try:
            return self.build(config, spec)
        except FusionKitError:
            raise
        except Exception as error:
            raise PluginError(
                f"method {self.name!r} could not build its model: {type(error).__name__}: {error}"
            ) from error

    def check(self, spec: DataSpec) -> None:
        """Refuse data that the method cannot take.

        Raises:
            DataError: number of modalities or a role does not fit. ConfigError: task does not.
        """
        count, have = len(spec.modalities), ", ".join(spec.modalities)
        if count < self.min_modalities:
            raise DataError(
                f"{self.name} needs at least {self.min_modalities} modalities, the data have "
                f"{count} ({have})"
            )
        if self.max_modalities is not None and count > self.max_modalities:
            raise DataError(
                f"{self.name} takes at most {self.max_modalities} modalities, the data have "
                f"{count} ({have})"
            )
        for role in self.roles:
            if role not in spec.modalities:
                raise DataError(f"{self.name} needs a modality {role!r}; the data have {have}")
        if spec.task not in self.tasks:
            raise ConfigError(
                f"{self.name} cannot be trained for {spec.task}, only for "
                + ", ".join(sorted(self.tasks))
            )


def _check_names(spec: DataSpec) -> None:
    """Models keep modules by modality, so a modality cannot be called like a module's method."""
    from torch import nn

    for name in spec.modalities:
        if hasattr(nn.ModuleDict, name):
            raise DataError(f"modalities: {name!r} is a name that torch modules need; rename it")


@dataclass(frozen=True)
class Callback:
    """A named object whose methods the training loop calls.

    Args:
        name: as in ``--set train.callbacks=[NAME]``.
        summary: one line for ``fusionkit list``.
        build: () -> object with any of the methods ``on_fit_start``, ``on_epoch_start``,
            ``on_batch_end``, ``on_epoch_end`` and ``on_fit_end``, each called with
            ``state=FitState`` (`fusionkit.training.loop.FitState`: fabric, model, folder,
            progress with epoch and history), and ``on_run_start(dataset, folder, work)``.
    """

    name: str
    summary: str
    build: Callable[[], object]
