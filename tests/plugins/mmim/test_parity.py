"""MMIM against what the original authors' code gives, for every golden file there is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import CheckpointError, DataSpec
from fusionkit_plugins.mmim.checkpoint import convert, official_to_ours
from fusionkit_plugins.mmim.config import MMIMConfig
from fusionkit_plugins.mmim.entropy import EntropyMemory
from fusionkit_plugins.mmim.model import MMIM
from fusionkit_plugins.mmim.objective import (
    entropy,
    first_stage,
    likelihood_loss,
    training_step,
)

from golden import (
    Arrays,
    Built,
    Golden,
    assert_close,
    check_outputs_and_gradients,
    check_trajectory,
)
from mmim_golden import batch, build


@pytest.mark.golden("mmim*.npz")
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_outputs_and_gradients(golden_case: Path, dtype: torch.dtype) -> None:
    golden = Golden(golden_case, dtype)
    check_outputs_and_gradients(golden, build(golden))


def optimizer_of(golden: Golden, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    options = golden.meta["optimizer"]
    assert options["name"] == "Adam"
    return torch.optim.Adam(
        parameters,
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )


@pytest.mark.golden("mmim*.npz")
def test_trajectory_of_a_part(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    if not golden.group("traj") or "traj/parts" in golden.arrays:
        assert golden.meta.get("optimizer") is None or "traj/parts" in golden.arrays
        return
    built = build(golden)

    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        outputs = built.run(module, inputs)
        if "preds" in outputs:
            return F.l1_loss(outputs["preds"], inputs["target"])
        return outputs["nce"] if "nce" in outputs else -outputs["lld"]

    assert "clipping" not in golden.meta["optimizer"]
    check_trajectory(golden, built, loss, optimizer_of(golden, list(built.module.parameters())))


def stages(golden: Golden, built: Built) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that the official stages 0 and 1 step: those that our optimizers have."""
    model = built.module
    assert isinstance(model, MMIM)
    (objective,) = first_stage(model)
    first = list(objective.parameters(model))
    names = {built.name(str(name)) for name in golden.arrays["aux/mi_names"]}
    assert {n for n, p in model.named_parameters() if any(p is q for q in first)} == names
    return first, [p for n, p in model.named_parameters() if n not in names]


def clip(model: nn.Module) -> None:
    """As the official script does: over the parameters that are not stepped, too."""
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


@pytest.mark.golden("mmim_model*.npz")
def test_trajectory_of_the_first_stage(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    model = built.module
    assert isinstance(model, MMIM)
    trained, _ = stages(golden, built)
    start = golden.group("traj0")["loss"][0]
    assert_close("loss", likelihood_loss(model, batch(golden.group("in"))).detach(), start, 1e-9)

    # The official clipped norm counts the encoders' gradients, which our loss does not have.
    def loss(_: nn.Module, inputs: Arrays) -> Tensor:
        model.zero_grad()
        return -model.log_likelihood(model.encode(batch(inputs)))

    check_trajectory(
        golden,
        built,
        loss,
        optimizer_of(golden, trained),
        group="traj0",
        after_backward=lambda: clip(model),
    )


@pytest.mark.golden("mmim_model*.npz")
def test_trajectory_of_the_second_stage(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    built = build(golden)
    model: Any = built.module
    _, trained = stages(golden, built)
    memory: EntropyMemory = model.memory
    parts: list[Tensor] = []

    def loss(_: nn.Module, inputs: Arrays) -> Tensor:
        model.zero_grad()
        data, target = batch(inputs), inputs["target"]
        with torch.no_grad():
            vectors = model.encode(data)
            fused, outputs = model.fuse(vectors)
            values = [
                F.l1_loss(outputs, target),
                model.contrastive_loss(vectors, fused),
                model.log_likelihood(vectors),
                _entropy_without_a_trace(model, vectors, target),
            ]
            parts.append(torch.stack(values))
        return training_step(model, data, F.l1_loss)

    memory.start_epoch(1)
    assert golden.meta["optimizer"]["clipping"] == "global grad norm 1.0 over all model parameters"
    check_trajectory(
        golden,
        built,
        loss,
        optimizer_of(golden, trained),
        after_backward=lambda: clip(model),
    )
    assert_close("traj/parts", torch.stack(parts), golden.group("traj")["parts"], 1e-9)


def _entropy_without_a_trace(model: MMIM, vectors: Arrays, target: Tensor) -> Tensor:
    """The entropy as the official code reports it, which is a batch before it enters the loss."""
    memory = model.memory
    kept, seen = memory._kept.copy(), memory.seen
    memory.seen += 1
    value = entropy(model, vectors, target)
    memory._kept, memory.seen = kept, seen
    return value


@pytest.mark.golden("mmim_model*.npz")
def test_official_state_dicts_convert(golden_case: Path) -> None:
    golden = Golden(golden_case, torch.float64)
    model = build(golden).module
    assert isinstance(model, MMIM)
    state = golden.group("param")
    converted = convert({**state, "text_enc.bertmodel.pooler.weight": torch.zeros(1)})
    config = MMIMConfig(**converted.config)
    for field in ("main_encoder", "encoder_hidden", "encoder_size", "encoder_layers", "all_pairs",
                  "bidirectional", "hidden_size", "cpc_layers", "entropy", "log_variance_term",
                  "bounded_log_variance", "first_layer_state", "cpc_one_activation"):  # fmt: skip
        assert getattr(config, field) == getattr(model.config, field), field
    assert dict(converted.modalities) == dict(model.spec.modalities)
    assert converted.num_outputs == golden.config["n_class"]
    again = MMIM(config, DataSpec(converted.modalities, "regression", converted.num_outputs))
    again.double().eval().load_state_dict(dict(converted.state_dict))
    data = batch(golden.group("in"))
    assert torch.equal(again(data), model.eval()(data))

    with pytest.raises(CheckpointError, match=r"no parameter.*MMIM"):
        convert({**state, "classifier.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="lacks"):
        convert({n: p for n, p in state.items() if not n.startswith("cpc_zt")})
    name = "visual_enc.rnn.weight_hh_l0"
    with pytest.raises(CheckpointError, match="gates"):
        convert({**state, name: state[name][:-3]})
    assert official_to_ours("cpc_za.net.2.bias") == "contrast.audio.predictor.2.bias"
