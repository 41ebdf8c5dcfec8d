"""LMF against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fusionkit import CheckpointError, DataSpec
from fusionkit.registry import registry
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.config import TrainConfig
from fusionkit.training.objective import build_optimizer
from fusionkit.training.parameter_groups import main_parameters
from fusionkit_plugins.lmf.checkpoint import convert
from fusionkit_plugins.lmf.config import LMFConfig
from fusionkit_plugins.lmf.model import LMF

from golden import Golden, check_outputs_and_gradients, check_trajectory
from lmf_golden import build, loss, optimizer
from tfn_golden import check_buffers_after, sizes

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=["float64", "float32"]
)


@pytest.mark.golden("lmf*.npz")
@DTYPES
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("lmf*.npz")
@DTYPES
def test_running_statistics_after_one_step(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    if golden.meta["mode"].startswith("eval"):
        assert not golden.group("buffer_after"), "evaluation has no statistics to compare"
        return
    check_buffers_after(golden, build(golden))


@pytest.mark.golden("lmf*.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    if not golden.group("traj"):
        assert golden.meta["optimizer"] is None, "a trajectory is described but not stored"
        return
    built = build(golden)
    assert isinstance(built.module, LMF)
    check_trajectory(golden, built, loss(golden, built), optimizer(golden, built.module))


@pytest.mark.golden("lmf*.npz")
def test_the_option_gives_the_released_groups(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    model = build(golden).module
    assert isinstance(model, LMF)
    wanted = options_by_name(model, optimizer(golden, model))
    base, decay = golden.meta["optimizer"]["lr"], golden.meta["optimizer"]["weight_decay"]
    assert {rate for rate, _ in wanted.values()} == {3e-3, base}
    model.factor_learning_rate = 3e-3 / base
    method, config = (
        registry().get("method", "lmf"),
        TrainConfig(learning_rate=base, weight_decay=decay),
    )
    groups = main_parameters(method, model, Auxiliary(method, model), config)
    found = options_by_name(model, build_optimizer(groups, config))
    assert all(found[name] == pytest.approx(wanted[name]) for name in wanted)


def options_by_name(
    module: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter."""
    found = {
        parameter: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {name: found[p] for name, p in module.named_parameters()}


@pytest.mark.golden("lmf*.npz")
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = {**golden.group("param"), **golden.group("buffer")}
    converted = convert(official)
    wanted = build(golden).module
    config = LMFConfig(**converted.config)
    assert converted.modalities == sizes(golden) and config.rank == golden.config["rank"]
    assert config.lengths == "padded"
    outputs = converted.num_outputs
    model = LMF(config, DataSpec(converted.modalities, "regression", outputs)).double()
    model.load_state_dict(converted.state_dict)
    for name, value in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    with pytest.raises(CheckpointError, match=r"no parameter of the official LMF"):
        convert({**official, "output_range": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"lacks 'encoders.of.text.linear_1.weight'"):
        convert({n: v for n, v in official.items() if n != "text_subnet.linear_1.weight"})
