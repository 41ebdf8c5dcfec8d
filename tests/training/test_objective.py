"""Schedules: the rates after every epoch, groups that keep their ratio, optimizers that follow."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import fusionkit as fk
from fusionkit.training.config import TrainConfig
from fusionkit.training.objective import Schedule, build_optimizer

STEP: dict[str, Any] = {"scheduler": "step", "step_epochs": 2, "step_factor": 0.1}
SCHEDULES: list[dict[str, Any]] = [
    {"scheduler": "plateau"},
    {"scheduler": "onecycle"},
    {"scheduler": "cosine"},
    STEP,
]


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(2))


def grouped(config: TrainConfig, *factors: float) -> torch.optim.Optimizer:
    """A first group at the rate of the configuration, and one for each factor."""
    groups: list[dict[str, Any]] = [{"params": [parameter()]}]
    groups += [{"params": [parameter()], "lr": config.learning_rate * f} for f in factors]
    return build_optimizer(groups, config)


def epoch(
    optimizer: torch.optim.Optimizer, schedule: Schedule, steps: int = 3, loss: float = 1.0
) -> list[float]:
    """Run one; rates of all groups afterwards."""
    for _ in range(steps):
        optimizer.step()
        schedule.after_step()
    schedule.after_epoch(loss)
    return rates(optimizer)


def rates(optimizer: torch.optim.Optimizer) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


@pytest.mark.parametrize("options", SCHEDULES, ids=lambda o: o["scheduler"])
def test_groups_keep_their_ratio_and_the_first_is_as_without_them(options: dict[str, Any]) -> None:
    # A rate this small is one that a plateau's default threshold would leave where it is.
    config = TrainConfig(epochs=20, learning_rate=1e-4, **options)
    alone, several = grouped(config), grouped(config, 10.0, 1e-5)
    schedules = Schedule(alone, config, 3), Schedule(several, config, 3)
    seen = [rates(several)]
    for _ in range(config.epochs):
        (one,) = epoch(alone, schedules[0])
        seen.append(epoch(several, schedules[1]))
        assert seen[-1][0] == one
    for first, larger, smaller in seen:
        assert larger == pytest.approx(10 * first, rel=1e-9)
        assert smaller == pytest.approx(1e-5 * first, rel=1e-9)
    assert seen[-1][0] < seen[0][0] or options["scheduler"] == "onecycle"
    assert len({first for first, *_ in seen}) > 4


@pytest.mark.parametrize(
    ("epochs", "powers"),
    [(2, [0, 1, 1, 2, 2, 3]), (1, [1, 2, 3, 4, 5, 6]), ((1, 4), [1, 1, 1, 2, 2, 2])],
)
def test_rates_of_the_step_schedule(epochs: Any, powers: list[int]) -> None:
    config = TrainConfig(
        epochs=6, learning_rate=0.3, scheduler="step", step_epochs=epochs, step_factor=0.5
    )
    optimizer = grouped(config)
    schedule = Schedule(optimizer, config, 3)
    assert rates(optimizer) == [0.3]
    found = [epoch(optimizer, schedule)[0] for _ in powers]
    assert found == pytest.approx([0.3 * 0.5**power for power in powers], rel=1e-12)


@pytest.mark.parametrize("options", SCHEDULES, ids=lambda o: o["scheduler"])
def test_followers_keep_their_ratio_to_the_first_group(options: dict[str, Any]) -> None:
    config = TrainConfig(epochs=8, learning_rate=1e-2, **options)

    def start() -> tuple[torch.optim.Optimizer, torch.optim.Optimizer, Schedule]:
        main, other = grouped(config, 3.0), torch.optim.Adam([parameter()], lr=2e-3)
        return main, other, Schedule(main, config, 3, [other])

    main, other, schedule = start()
    seen, buffer = [], io.BytesIO()
    for _ in range(config.epochs):
        epoch(main, schedule)
        seen.append(rates(other)[0])
        assert seen[-1] == pytest.approx(0.2 * rates(main)[0], rel=1e-9)
        if len(seen) == 4:
            torch.save([main.state_dict(), other.state_dict(), schedule.state_dict()], buffer)
    # What is loaded replaces the groups of an optimizer: followers go by the new ones.
    main, other, schedule = start()
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    main.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    schedule.load_state_dict(saved[2])
    assert rates(other)[0] == seen[3]
    for wanted in seen[4:]:
        epoch(main, schedule)
        assert rates(other)[0] == wanted


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheduler": "step"}, "needs step_epochs and step_factor"),
        ({"scheduler": "step", "step_epochs": 3}, "needs step_epochs and step_factor"),
        ({"scheduler": "step", "step_factor": 0.1}, "needs step_epochs and step_factor"),
        ({"step_epochs": 3}, "for scheduler=step, not for none; set both to null"),
        ({**STEP, "scheduler": "cosine"}, "for scheduler=step, not for cosine"),
        ({**STEP, "step_epochs": 0}, "at least 1"),
        ({**STEP, "step_epochs": ()}, "at least 1"),
        ({**STEP, "step_epochs": (0, 4)}, "at least 1"),
        ({**STEP, "step_epochs": (4, 4)}, "rising order"),
        ({**STEP, "step_factor": 1}, "less than 1"),
        ({**STEP, "step_factor": 0}, "greater than 0"),
    ],
)
def test_options_of_the_step_schedule(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig(**options)


def test_a_run_with_the_step_schedule_resumes_with_the_same_bits(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "data": "synthetic", "model": {"hidden_size": 4}, "data_options": {"samples": 120},
        "train": {**STEP, "step_epochs": [1, 4], "epochs": 5, "batch_size": 16},
    }  # fmt: skip
    whole = fk.train("unimodal", out=tmp_path / "whole", **options)
    assert [r["learning_rate"] for r in whole.history] == pytest.approx(
        [1e-4, 1e-4, 1e-4, 1e-5, 1e-5], rel=1e-12
    )

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train("unimodal", out=tmp_path / "cut", callbacks=[Stop()], **options)
    resumed = fk.train(resume=tmp_path / "cut")
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}
