"""Self-MM beyond the released code: other modalities, training, resuming, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import fusionkit as fk
from fusionkit import ConfigError, DataSpec
from fusionkit.registry import registry
from fusionkit.registry.manager import Registered
from fusionkit.testing import make_batch
from fusionkit.training.checkpoint import load_checkpoint
from fusionkit.training.config import TrainConfig
from fusionkit_plugins.self_mm.config import SelfMMConfig
from fusionkit_plugins.self_mm.labels import FUSION
from fusionkit_plugins.self_mm.model import SelfMM, parameter_groups
from fusionkit_plugins.self_mm.objective import training_step
from fusionkit_plugins.self_mm.plugin import fusionkit_register_methods
from fusionkit_plugins.self_mm.presets import PRESETS

SPEC = DataSpec({"text": 3, "audio": 4, "vision": 2}, "regression", 1)
SMALL: dict[str, Any] = {
    "recurrent_size": 4,
    "vector_size": 3,
    "head_size": 5,
    "fusion_size": 6,
    "encoder_dropout": 0.0,
    "head_dropout": 0.0,
}


def build(spec: DataSpec = SPEC, **options: Any) -> SelfMM:
    torch.manual_seed(0)
    return SelfMM(SelfMMConfig(**{**SMALL, **options}), spec)


def l1(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets.reshape(outputs.shape)).abs().mean()


@pytest.mark.parametrize("encoder", ["paper", "conv_bilstm"])
@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_modalities(count: int, encoder: str) -> None:
    spec = DataSpec({f"m{k}": 2 + k for k in range(count)}, "regression", 2)
    model = build(spec, encoder=encoder, main="m1", frontend_size=4)
    assert model.fusion_head.linear_1.in_features == 3 * count
    batch = make_batch(spec, [3, 5, 1])
    predictions, features = model.heads_of(batch)
    assert set(predictions) == set(features) == {FUSION, *spec.modalities}
    assert {tuple(p.shape) for p in predictions.values()} == {(3, 2)}
    assert torch.equal(predictions[FUSION], model(batch))


def test_the_main_modality_comes_encoded() -> None:
    batch = make_batch(SPEC, [4, 2])
    x = batch.features["text"]
    for how, want in (
        ("mean", torch.stack([x[0].mean(dim=0), x[1, :2].mean(dim=0)])),
        ("first", x[:, 0]),
    ):
        vector = build(main_vector=how).encoders["text"](x, batch.lengths["text"])
        assert torch.allclose(vector, want)
    with pytest.raises(ConfigError, match="main: no modality 'sound' in the data"):
        build(main="sound")
    with pytest.raises(ConfigError, match="head_size: no modality 'sound'"):
        build(head_size={"sound": 3})


def test_unimodal_losses_begin_in_the_second_epoch() -> None:
    model, batch = build(), make_batch(SPEC, [4, 2, 5, 3, 1, 6])
    assert batch.targets is not None
    model.memory.start(batch.ids, batch.targets)
    for epoch in (1, 2, 3):
        model.memory.start_epoch(epoch)
        plain = l1(model(batch), batch.targets)
        loss = training_step(model, batch, l1)
        model.zero_grad()
        loss.backward()
        unimodal = [p.grad for p in model.heads.parameters()]
        moved = any(g is not None and bool(g.any()) for g in unimodal)
        # The labels of epoch 2 move after its losses: what they do is seen in epoch 3.
        assert moved == (epoch == 3)
        assert (loss > plain + 1e-6) if epoch == 3 else torch.allclose(loss, plain)
        assert all(not x.requires_grad for x in model.memory.state_dict().values())


def test_groups_by_modality_and_all_the_rest() -> None:
    assert not parameter_groups(build())
    rates, decays = {"vision": 0.1, "other": 2.0}, {"audio": 0.3, "vision": 0.0}
    model = build(learning_rates=rates, weight_decays=decays)
    names = {id(p): name for name, p in model.named_parameters()}
    found = {group.name: group for group in parameter_groups(model)}
    options = {name: (group.learning_rate, group.weight_decay) for name, group in found.items()}
    assert options == {"vision": (0.1, 0.0), "other": (2.0, None), "audio": (1.0, 0.3)}
    parts = {
        name: {names[id(p)].rsplit(".", 2)[0] for p in group.parameters}
        for name, group in found.items()
    }
    assert parts == {
        "vision": {"encoders.vision"},
        "audio": {"encoders.audio"},
        "other": {"heads.text", "heads.audio", "heads.vision", "fusion_head"},
    }
    assert sum(len(list(group.parameters)) for group in found.values()) == len(names)


@pytest.mark.parametrize("field", ["learning_rates", "weight_decays"])
def test_groups_without_parameters(field: str) -> None:
    sound: dict[str, Any] = {field: {"sound": 1.0}}
    text: dict[str, Any] = {field: {"text": 1.0}}
    with pytest.raises(ConfigError, match=f"{field}: no modality 'sound' in the data"):
        build(**sound)
    with pytest.raises(ConfigError, match=f"{field}: 'text' comes encoded, there is nothing"):
        build(**text)
    (group,) = parameter_groups(build(encoder="conv_bilstm", **text))
    assert list(group.parameters)


def test_a_modality_called_as_all_the_rest() -> None:
    spec = DataSpec({"text": 3, "other": 4}, "regression", 1)
    with pytest.raises(fk.ConfigError, match=r"learning_rates: 'other' .* rename it in the data"):
        fk.create("self_mm", spec, learning_rates={"other": 0.1})
    fk.create("self_mm", spec, learning_rates={"text": 0.1}, encoder="conv_bilstm")


def test_a_quarter_of_the_decay_on_the_mean_is_the_released_step() -> None:
    train = PRESETS["released"]["train"]
    batches, decay = train["accumulate"], train["weight_decay"]
    audio = PRESETS["released"]["model"]["weight_decays"]["audio"]
    assert (batches * decay, batches * audio) == (1e-3, 0.01)
    found = []
    for scale, own in ((batches, batches * decay), (1, decay)):
        weight = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
        optimizer = torch.optim.Adam([weight], lr=0.1, weight_decay=own)
        for gradient in torch.tensor([[1e-3, -1e-3, 2e-4]] * 5, dtype=torch.float64):
            weight.grad = scale * gradient
            optimizer.step()
        found.append(weight.detach())
    assert torch.allclose(found[0], found[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"label_range": 0}, {"vector_size": 0}, {"frontend_kernel": 4}, {"labels": "paper"},
        {"learning_rates": {"audio": 0}}, {"learning_rates": {"audio": float("nan")}},
        {"weight_decays": {"audio": -0.1}},
    ],
)  # fmt: skip
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SelfMMConfig(**options)


def test_presets_build() -> None:
    spec = DataSpec({"text": 768, "audio": 5, "vision": 20}, "regression", 1)
    for name, preset in PRESETS.items():
        TrainConfig(**preset.get("train", {}))
        model = SelfMM(SelfMMConfig(**preset["model"]), spec)
        vectors = 3 * 64 if name == "sensors" else 768 + 16 + 32
        assert model.fusion_head.linear_1.in_features == vectors
        assert model.memory.limit == (None if name == "sensors" else 3)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A regression from two modalities, and the method under its name."""
    found: list[Any] = []
    fusionkit_register_methods(register=found.append)
    registry().names("method")
    monkeypatch.setitem(
        registry()._tables["method"], "self_mm", [Registered(found[0], "a test 1.0")]
    )
    generator = np.random.default_rng(0)
    count = 80
    content: dict[str, Any] = {"target": generator.normal(0, 1, count)}
    for name, size in (("voice", 4), ("face", 3)):
        lengths = generator.integers(2, 7, count)
        x = generator.normal(0, 1, (lengths.sum(), size))
        x[:, 0] += np.repeat(content["target"], lengths)
        content |= {name: x.astype(np.float32), f"{name}_len": lengths}
    np.savez(tmp_path / "data.npz", **content)
    return f"npz:{tmp_path / 'data.npz'}"


def test_training_lowers_the_loss_and_a_resumed_run_has_the_same_bits(
    data: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "data": data, "model": {**SMALL, "head_dropout": 0.1},
        "train": {
            "epochs": 6, "batch_size": 8, "accumulate": 1, "monitor": "last",
            "learning_rate": 0.01,
        },
    }  # fmt: skip
    result = fk.train("self_mm", out=tmp_path / "whole", **options)
    history = result.history
    assert history[-1]["validation_loss"] < 0.8 * history[0]["validation_loss"]

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train("self_mm", out=tmp_path / "cut", callbacks=[Stop()], **options)
    assert fk.train(resume=tmp_path / "cut").epochs == 6
    whole, cut = (load_checkpoint(tmp_path / run / "checkpoints") for run in ("whole", "cut"))
    assert all(torch.equal(whole[0][name], cut[0][name]) for name in whole[0])
    memory = whole[1]["memory"]
    assert all(torch.equal(memory[name], cut[1]["memory"][name]) for name in memory)
    assert not torch.equal(memory["labels.voice"], memory[f"labels.{FUSION}"])
