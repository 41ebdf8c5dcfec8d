"""MISA against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import CheckpointError, DataSpec, MultimodalBatch
from fusionkit_plugins.misa.checkpoint import convert
from fusionkit_plugins.misa.config import MISAConfig
from fusionkit_plugins.misa.model import MISA
from fusionkit_plugins.misa.objective import (
    difference,
    reconstruction,
    similarity,
    training_step,
)

from golden import Arrays, Golden, assert_close, check_outputs_and_gradients, check_trajectory
from misa_golden import Official, build, function

MODELS = ("misa_model*.npz", "misa_fusion*.npz")
PRECISION = pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32], ids=["float64", "float32"]
)


@pytest.mark.golden(*MODELS)
@PRECISION
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


@pytest.mark.golden("misa_losses*.npz", "misa_reverse*.npz")
@PRECISION
def test_functions(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    inputs = {name: x.requires_grad_() for name, x in golden.group("in").items()}
    outputs = function(golden).run(inputs)
    limit = 1e-9 if dtype == torch.float64 else 1e-5
    for name, want in golden.group("out").items():
        assert_close(f"out/{name}", outputs[name].detach(), want, limit)
    torch.stack(
        [(outputs[n] * cot).sum() for n, cot in golden.group("cot").items()]
    ).sum().backward()
    for name, want in golden.group("gradin").items():
        gradient = inputs[name].grad
        assert gradient is not None
        assert_close(f"gradin/{name}", gradient, want, limit)


@pytest.mark.golden(*MODELS)
def test_trajectory(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built, options = build(golden), golden.meta["optimizer"]
    official = built.module
    assert isinstance(official, Official)
    model = official.model
    trained = [p for n, p in official.named_parameters() if "sp_discriminator" not in n]
    assert options["name"] == "Adam"
    optimizer = torch.optim.Adam(
        trained,
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )
    seen: list[Tensor] = []

    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        assert isinstance(module, Official)
        parts, target = module.represent(inputs), inputs["target"]
        terms = torch.stack(
            [
                F.mse_loss(model.predict(parts), target),
                difference(parts),
                similarity(model, parts),
                reconstruction(model, parts),
            ]
        )
        seen.append(terms.detach())
        c = golden.config
        weights = [1, c["diff_weight"], c["sim_weight"], c["recon_weight"]]
        return (terms * torch.tensor(weights, dtype=terms.dtype)).sum()

    assert options["clipping"] == "gradient VALUE clipped to +-1.0"
    check_trajectory(
        golden,
        built,
        loss,
        optimizer,
        after_backward=lambda: nn.utils.clip_grad_value_(trained, 1.0),
        # The key's third of the bias moves no output.
        loose=[n for n in golden.group("param") if n.endswith("in_proj_bias")],
    )
    assert_close("traj/parts", torch.stack(seen), golden.group("traj")["parts"], 1e-9)


@pytest.mark.golden("misa_model*.npz")
def test_the_training_step_is_the_official_loss(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = build(golden).module
    assert isinstance(official, Official)
    loss = training_step(official.model, official.batch(golden.group("in")), F.mse_loss)
    assert_close("traj/loss", loss.detach(), golden.group("traj")["loss"][0], 1e-9)


@pytest.mark.golden(*MODELS)
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    official = build(golden).module
    assert isinstance(official, Official)
    state = golden.group("param")
    converted = convert({**state, "bertmodel.embeddings.position_ids": torch.zeros(1)})
    wanted, config = official.model.config, MISAConfig(**converted.config)
    for field in ("hidden_size", "cell", "transformer_layers", "feedforward_size", "similarity"):
        assert getattr(config, field) == getattr(wanted, field), field
    assert converted.num_outputs == golden.config["num_classes"]
    model = MISA(
        config.model_copy(update={"heads": wanted.heads, "activation": wanted.activation}),
        DataSpec(converted.modalities, "regression", converted.num_outputs),
    )
    model.double().eval().load_state_dict(dict(converted.state_dict))
    sizes = converted.modalities
    features = {m: torch.randn(3, 4, size, dtype=torch.float64) for m, size in sizes.items()}
    batch = MultimodalBatch(features, dict.fromkeys(sizes, torch.tensor([4, 2, 1])))
    assert torch.equal(model(batch), official.model.eval()(batch))

    with pytest.raises(CheckpointError, match=r"no parameter.*MISA"):
        convert({**state, "classifier.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="lacks"):
        convert({n: p for n, p in state.items() if not n.startswith("vrnn1")})
    rnn = state["vrnn1.weight_hh_l0"]
    with pytest.raises(CheckpointError, match="gates"):
        convert({**state, "vrnn1.weight_hh_l0": rnn[: 2 * rnn.shape[1]]})
