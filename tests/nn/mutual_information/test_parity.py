"""The estimators against what the released code of CLUB gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from club_golden import build, zero_gradients
from golden import Arrays, Golden, check_outputs_and_gradients, check_trajectory


@pytest.mark.golden("club_*.npz")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("club_*_learning.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    options = golden.meta["optimizer"]
    assert options["name"] == "Adam"
    optimizer = torch.optim.Adam(
        built.module.parameters(),
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )

    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        return built.run(module, inputs)["learning_loss"]

    check_trajectory(golden, built, loss, optimizer, loose=zero_gradients(golden))
