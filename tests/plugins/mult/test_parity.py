"""MulT against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from fusionkit import CheckpointError
from fusionkit_plugins.mult.checkpoint import convert
from fusionkit_plugins.mult.config import MulTConfig
from fusionkit_plugins.mult.model import MulT

from golden import Arrays, Golden, assert_close, check_outputs_and_gradients, check_trajectory
from mult_golden import Positions, WithUnused, build, model_batch, model_config, model_spec

WHOLE = ("mult_aligned*.npz", "mult_unaligned*.npz", "mult_[lav]only*.npz")
OFFICIAL_BUFFERS = ("version", "embed_positions._float_tensor")


@pytest.mark.golden("mult_*.npz")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("mult_position*.npz")
def test_table(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float32)
    module = cast(Positions, build(golden).module)
    table = module(golden.group("in")["x"], golden.config["embedding_dim"])[1]
    assert_close("aux/table", table, golden.group("aux")["table"], 1e-9)


@pytest.mark.golden("mult_*.npz")
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    if not golden.group("traj"):
        assert "optimizer" not in golden.meta, "a trajectory is described but not stored"
        return
    built = build(golden)
    options = golden.meta["optimizer"]
    assert options["name"] == "Adam"
    parameters = list(built.module.parameters())
    optimizer = torch.optim.Adam(
        parameters,
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )
    largest_norm = float(options["clipping"].removeprefix("global grad norm "))

    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        return (built.run(module, inputs)["output"] - inputs["target"]).abs().mean()

    def clip() -> None:
        torch.nn.utils.clip_grad_norm_(parameters, largest_norm)

    # The key third of these biases has no gradient but rounding, which Adam turns into steps.
    loose = [name for name in golden.group("param") if name.endswith("in_proj_bias")]
    check_trajectory(
        golden,
        built,
        loss,
        optimizer,
        after_backward=clip,
        loose=loose,
    )


@pytest.mark.golden(*WHOLE)
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = {**golden.group("param"), **golden.group("buffer")}
    assert any(name.endswith(OFFICIAL_BUFFERS) for name in official)
    converted = convert(official)
    heads, mask = golden.config["num_heads"], golden.config["attn_mask"]
    config = MulTConfig(**{**converted.config, "num_heads": heads, "attn_mask": mask})
    wanted = model_config(golden)
    for field in ("width", "num_layers", "targets", "lengths", "positions"):
        assert getattr(config, field) == getattr(wanted, field), field
    spec = model_spec(golden)
    assert converted.modalities == spec.modalities and converted.num_outputs == spec.num_outputs

    model = MulT(config, spec).double().eval()
    model.load_state_dict(dict(converted.state_dict))
    predicted = model(model_batch(golden.group("in"))).detach()
    assert_close("out/output", predicted, golden.group("out")["output"], 1e-9)


@pytest.mark.golden("mult_aligned*.npz")
def test_foreign_state_dicts_are_refused(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = golden.group("param")
    for name in (
        "encoder.text.weight",
        "trans_l_with_t.layer_norm.weight",
        "trans_l_mem.layers.0.gate.weight",
        "trans_l_mem.layer_norm",
    ):
        with pytest.raises(CheckpointError, match="no parameter of the official MulT"):
            convert({**official, name: torch.zeros(2)})
    with pytest.raises(CheckpointError, match=r"projections\.audio"):
        convert({n: x for n, x in official.items() if n != "proj_a.weight"})
    with pytest.raises(CheckpointError, match="not 0 to the depth"):
        convert({n: x for n, x in official.items() if not n.startswith("trans_l_mem.layers.1.")})
    with pytest.raises(CheckpointError, match="no cross-modal transformer"):
        convert({n: x for n, x in official.items() if "_with_" not in n})
    with pytest.raises(CheckpointError, match="axes"):
        convert({**official, "proj_l.weight": torch.zeros(8, 12)})


@pytest.mark.golden(*WHOLE)
def test_released_options_are_live(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    inputs, want = golden.group("in"), golden.group("out")["output"]
    released = cast(WithUnused, build(golden).module).model

    def change(**options: object) -> float:
        config = released.config.model_copy(update=options)
        model = MulT(config, model_spec(golden)).double()
        model.load_state_dict(released.state_dict())
        return float((model(model_batch(inputs)).detach() - want).abs().max())

    assert change() < 1e-9
    assert change(attn_mask=not golden.config["attn_mask"]) > 1e-6
    if any((frames == 0).all(dim=-1).any() for name, frames in inputs.items() if name != "target"):
        assert change(positions="step") > 1e-6
