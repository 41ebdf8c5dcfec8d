"""Rates and betas in tensors: for a step alone, and in optimizers that then read no number."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fusionkit.training.config import TrainConfig
from fusionkit.training.device_rates import DeviceRates
from fusionkit.training.objective import build_optimizer, cycles_momentum


def test_rates_are_tensors_during_a_step_alone() -> None:
    groups = [{"params": [torch.zeros(1)], "lr": 0.5}, {"params": [torch.zeros(1)], "lr": 0.25}]
    optimizer = torch.optim.SGD(groups)
    rates = DeviceRates(optimizer, torch.device("cpu"))
    rates.load()
    with pytest.raises(ZeroDivisionError), rates.in_place():
        assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.25]
        assert all(isinstance(group["lr"], Tensor) for group in optimizer.param_groups)
        raise ZeroDivisionError
    assert [type(group["lr"]) for group in optimizer.param_groups] == [float, float]
    optimizer.param_groups[0]["lr"] = 0.125
    rates.load()
    assert rates.rates[0].item() == 0.125


def test_betas_where_the_schedule_changes_them() -> None:
    optimizer = torch.optim.Adam([torch.zeros(1)])
    group = optimizer.param_groups[0]
    with DeviceRates(optimizer, torch.device("cpu")).in_place():
        assert group["betas"] == (0.9, 0.999)
    rates = DeviceRates(optimizer, torch.device("cpu"), betas=True)
    group["betas"] = (0.75, 0.999)
    rates.load()
    with rates.in_place():
        first, second = group["betas"]
        assert isinstance(first, Tensor) and first.item() == 0.75 and second == 0.999
    assert group["betas"] == (0.75, 0.999)


@pytest.mark.parametrize("optimizer", ["adam", "adamw"])
@pytest.mark.parametrize("scheduler", ["cosine", "onecycle"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_reads_nothing_on_the_host(optimizer: Any, scheduler: Any, dtype: torch.dtype) -> None:
    """Fake tensors on a CUDA device have no values to read. (SGD's form for graphs needs CUDA.)"""
    config = TrainConfig(optimizer=optimizer, scheduler=scheduler, weight_decay=0.1)
    with FakeTensorMode():
        device = torch.device("cuda:0")
        parameters = [nn.Parameter(torch.zeros(3, device=device, dtype=dtype)) for _ in range(2)]
        made = build_optimizer(parameters, config, capturable=True)
        for group in made.param_groups:
            # Of parameters that are not fake torch takes many at a time if it may choose.
            group["foreach"] = group["foreach"] is None
        rates = DeviceRates(made, device, betas=cycles_momentum(config))
        for _ in range(2):
            rates.load()
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            with rates.in_place():
                made.step()
