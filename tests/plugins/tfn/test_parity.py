"""TFN against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fusionkit import CheckpointError, DataSpec
from fusionkit_plugins.tfn.checkpoint import convert
from fusionkit_plugins.tfn.config import TFNConfig
from fusionkit_plugins.tfn.model import TFN

from golden import Golden, assert_close, check_outputs_and_gradients, check_trajectory
from tfn_golden import build, check_buffers_after, run, sizes, summed_l1

DTYPES = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=["float64", "float32"]
)


@pytest.mark.golden("tfn*.npz")
@DTYPES
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("tfn*.npz")
@DTYPES
def test_running_statistics_after_one_step(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    if golden.meta["mode"] == "eval":
        assert not golden.group("buffer_after"), "evaluation has no statistics to compare"
        return
    check_buffers_after(golden, build(golden))


@pytest.mark.golden("tfn*.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    if not golden.group("traj"):
        assert golden.meta["optimizer"] is None, "a trajectory is described but not stored"
        return
    built, options = build(golden), golden.meta["optimizer"]
    assert options["name"] == "Adam" and options["clipping"] is None
    optimizer = torch.optim.Adam(
        built.module.parameters(),
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )
    check_trajectory(golden, built, summed_l1(golden, built), optimizer)


@pytest.mark.golden("tfn*.npz")
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = {**golden.group("param"), **golden.group("buffer")}
    converted = convert(official)
    assert converted.modalities == sizes(golden)
    config = TFNConfig(**converted.config)
    assert config.lengths == "padded"
    model = TFN(config, DataSpec(converted.modalities, "regression", converted.num_outputs))
    model.double().load_state_dict(converted.state_dict)
    model.train(golden.meta["mode"] != "eval")
    if golden.meta["mode"] != "eval":
        config = config.model_copy(update={"encoder_dropout": 0.0, "fusion_dropout": 0.0})
        model = TFN(config, DataSpec(converted.modalities, "regression", 1)).double()
        model.load_state_dict(converted.state_dict)
    predicted = run(model, golden.group("in"))["pred"].detach()
    assert_close("out/pred", predicted, golden.group("out")["pred"], 1e-9)
    with pytest.raises(CheckpointError, match=r"no parameter of the official TFN"):
        convert({**official, "fusion_bias": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="lacks 'output_shift'"):
        convert({name: value for name, value in official.items() if name != "output_shift"})
