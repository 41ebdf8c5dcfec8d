"""Objectives trained in alternation, and what a method remembers between steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusionkit as fk
from fusionkit.errors import FusionKitError, PluginError
from fusionkit.registry import (
    AuxiliaryObjective,
    Method,
    MethodConfig,
    TrainingMemory,
    registry,
)
from fusionkit.registry.manager import Registered
from fusionkit.training.checkpoint import load_checkpoint
from fusionkit.training.config import TrainConfig

OPTIONS: dict[str, Any] = {"data": "synthetic", "data_options": {"samples": 120}}


class Memory:
    """Counts what it is told; the number of steps changes the loss."""

    def __init__(self) -> None:
        self.calls = torch.zeros(3, dtype=torch.int64)
        self.samples = 0

    def start(self, ids: Sequence[str], targets: Tensor) -> None:
        assert len(ids) == len(targets)
        self.samples = len(ids)

    def start_epoch(self, epoch: int) -> None:
        self.calls[0] += 1
        self.calls[1] = epoch

    def state_dict(self) -> dict[str, Tensor]:
        return {"calls": self.calls.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.calls = state["calls"].clone()


class Toy(nn.Module):
    """Outputs that ignore the data but for their number; ``inner`` belongs to the auxiliary."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outer = nn.Parameter(torch.zeros(outputs))
        self.inner = nn.Parameter(torch.tensor(0.0))
        self.frozen = nn.Parameter(torch.tensor(0.0), requires_grad=False)
        self.memory = Memory()

    def forward(self, batch: fk.MultimodalBatch) -> Tensor:
        return self.outer.expand(len(batch), -1)


def inner(model: nn.Module) -> Iterable[nn.Parameter]:
    assert isinstance(model, Toy)
    return [model.inner]


def inner_loss(model: nn.Module, batch: fk.MultimodalBatch) -> Tensor:
    assert isinstance(model, Toy)
    return (model.inner - 3) ** 2 + model.outer.square().sum() * 100


def outer_loss(model: nn.Module, batch: fk.MultimodalBatch, task_loss: Any) -> Tensor:
    assert isinstance(model, Toy)
    model.memory.calls[2] += 1
    step = model.memory.calls[2].item()
    return (model.outer - model.inner.detach() * step).square().sum() + model.inner**2 * 100


def memory(model: nn.Module) -> TrainingMemory:
    assert isinstance(model, Toy)
    return model.memory


def use(monkeypatch: pytest.MonkeyPatch, *objectives: AuxiliaryObjective) -> None:
    method = Method(
        name="toy", summary="", config=MethodConfig, build=lambda c, spec: Toy(spec.num_outputs),
        training_step=outer_loss, auxiliary=lambda model: objectives, memory=memory,
    )  # fmt: skip
    registry().names("method")
    monkeypatch.setitem(registry()._tables["method"], "toy", [Registered(method, "a test 1.0")])


def objective(**options: Any) -> AuxiliaryObjective:
    return AuxiliaryObjective(**{"name": "fit", "parameters": inner, "loss": inner_loss,
                                 "learning_rate": 0.1, **options})  # fmt: skip


@pytest.mark.parametrize("when", ["step", "epoch"])
def test_each_loss_moves_its_own_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    use(monkeypatch, objective(when=when))
    train = {"epochs": 2, "batch_size": 16, "optimizer": "sgd", "learning_rate": 0.01,
             "monitor": "last"}  # fmt: skip
    result = fk.train("toy", out=tmp_path / "run", train=train, **OPTIONS)
    steps = 2 * result.history[0]["epoch"]
    weights = _weights(tmp_path / "run")

    alone = nn.Parameter(torch.tensor(0.0))
    optimizer = torch.optim.Adam([alone], lr=0.1)
    batches = -(-_training_samples() // 16)
    for _ in range(2 * batches):
        optimizer.zero_grad()
        ((alone - 3) ** 2).backward()
        optimizer.step()
    assert steps == 2
    assert torch.equal(weights["inner"], alone.detach())
    assert weights["outer"].abs().min() > 0.1
    assert all(r["train_fit"] > 0 for r in result.history)


def test_a_resumed_run_has_the_same_optimizers_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, objective(), objective(name="late", parameters=lambda m: [], when="epoch"))
    with pytest.raises(PluginError, match="'late' has no parameters"):
        fk.train("toy", out=tmp_path / "none", **OPTIONS)
    use(monkeypatch, objective())
    train = {"epochs": 4, "batch_size": 16, "monitor": "last"}
    fk.train("toy", out=tmp_path / "whole", train=train, **OPTIONS)

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train("toy", out=tmp_path / "cut", train=train, callbacks=[Stop()], **OPTIONS)
    resumed = fk.train(resume=tmp_path / "cut")
    assert resumed.epochs == 4
    whole, cut = _weights(tmp_path / "whole"), _weights(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


@pytest.mark.parametrize(("scheduled", "rate"), [(True, 1e-3), (False, 0.1)])
def test_a_scheduled_objective_follows_the_main_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduled: bool, rate: float
) -> None:
    use(monkeypatch, objective(scheduled=scheduled))
    train = {"epochs": 2, "scheduler": "step", "step_epochs": 1, "step_factor": 0.1}
    result = fk.train("toy", out=tmp_path / "run", train=train, **OPTIONS)
    assert result.history[-1]["learning_rate"] == pytest.approx(1e-5)
    state = load_checkpoint(tmp_path / "run" / "checkpoints")[1]["auxiliary"]["fit"]
    assert state["param_groups"][0]["lr"] == pytest.approx(rate)


def test_shared_and_doubled_objectives_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, objective(), objective())
    with pytest.raises(PluginError, match="name is taken"):
        fk.train("toy", out=tmp_path / "a", **OPTIONS)
    use(monkeypatch, objective(), objective(name="again"))
    with pytest.raises(PluginError, match="shares a parameter with 'fit'"):
        fk.train("toy", out=tmp_path / "b", **OPTIONS)


def test_a_loss_that_is_not_finite_names_the_objective(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, objective(loss=lambda model, batch: model.inner * torch.inf))
    with pytest.raises(FusionKitError, match="auxiliary 'fit' loss is nan in epoch 1, batch 1"):
        fk.train("toy", out=tmp_path / "run", **OPTIONS)


def test_gradient_values_are_clipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, objective())
    train = {"epochs": 1, "batch_size": 16, "optimizer": "sgd", "learning_rate": 1e-3,
             "monitor": "last", "clip_value": 0.5}  # fmt: skip
    fk.train("toy", out=tmp_path / "run", train=train, **OPTIONS)
    batches = -(-_training_samples() // 16)
    # SGD has momentum 0.9: no step exceeds 10 times the clipped gradient's.
    assert _weights(tmp_path / "run")["outer"].abs().max() <= 0.5e-3 * 10 * batches
    with pytest.raises(ValueError, match="exclude each other"):
        TrainConfig(clip_norm=1.0, clip_value=1.0)


def _training_samples() -> int:
    return len(fk.load_data("synthetic", samples=120).train)


def _weights(run: Path) -> dict[str, Tensor]:
    return load_checkpoint(run / "checkpoints")[0]
