"""MAG's gate against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fusionkit import CheckpointError
from fusionkit_plugins.mag.checkpoint import convert_gate

from golden import Golden, check_outputs_and_gradients, check_trajectory
from mag_golden import build, mse, optimizer


@pytest.mark.golden("mag*.npz")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("mag*.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    if not golden.group("traj"):
        assert golden.meta["optimizer"] is None, "a trajectory is described but not stored"
        return
    built = build(golden)
    check_trajectory(golden, built, lambda m, x: mse(m, built, x), optimizer(golden, built))


@pytest.mark.golden("mag*.npz")
def test_official_gates_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official, wanted = golden.group("param"), build(golden).module.state_dict()
    whole = {f"bert.MAG.{name}": value for name, value in official.items()}
    whole["bert.embeddings.word_embeddings.weight"] = torch.zeros(3, 2)
    for state in (official, whole):
        converted = convert_gate(state)
        assert set(converted) == set(wanted)
        assert all(torch.equal(converted[name], value) for name, value in wanted.items())
    with pytest.raises(CheckpointError, match="no parameter of the official MAG"):
        convert_gate({**official, "W_t.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"lacks W_ha\.bias"):
        convert_gate({name: value for name, value in official.items() if name != "W_ha.bias"})
