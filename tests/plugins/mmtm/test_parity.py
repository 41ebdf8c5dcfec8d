"""MMTM against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fusionkit import CheckpointError
from fusionkit.nn.squeeze_excitation import SqueezeExcitationFusion
from fusionkit_plugins.mmtm.checkpoint import module_name

from golden import Golden, check_outputs_and_gradients, check_trajectory
from mmtm_golden import build, loss


@pytest.mark.golden("mmtm*.npz")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("mmtm*.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    options = golden.meta["optimizer"]
    assert options["name"] == "Adam" and options["clipping"] is None
    optimizer = torch.optim.Adam(
        built.module.parameters(),
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )
    check_trajectory(golden, built, loss, optimizer)


@pytest.mark.golden("mmtm*.npz")
def test_squeeze_width(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    module = build(golden).module
    assert isinstance(module, SqueezeExcitationFusion)
    assert module.squeezed_size == golden.config["squeeze width"]


def test_foreign_parameters_are_refused() -> None:
    with pytest.raises(CheckpointError, match=r"'fc_audio\.bias'"):
        module_name("fc_audio.bias")
