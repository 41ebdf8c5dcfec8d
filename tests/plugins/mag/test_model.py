"""MAG beyond the released gate: other modalities, unaligned data, encoders, bounds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.testing import make_batch
from fusionkit.training.config import TrainConfig
from fusionkit_plugins.mag.config import MAGConfig
from fusionkit_plugins.mag.gate import MultimodalAdaptationGate
from fusionkit_plugins.mag.model import MAG
from fusionkit_plugins.mag.presets import PRESETS

SPEC = DataSpec({"text": 3, "audio": 4, "vision": 2}, "classification", 3)


def build(spec: DataSpec = SPEC, **options: Any) -> MAG:
    torch.manual_seed(0)
    return MAG(MAGConfig(**{"hidden_size": 5, **options}), spec).eval()


@pytest.mark.parametrize("beta", [0.1, 1.0])
def test_the_shift_stays_within_beta_times_the_main_norm(beta: float) -> None:
    torch.manual_seed(0)
    gate = MultimodalAdaptationGate(6, {"one": 3, "two": 2}, beta=beta).eval()
    gate.norm = torch.nn.Identity()  # type: ignore[assignment]
    main = torch.randn(4, 5, 6)
    others = {"one": 100 * torch.randn(4, 5, 3), "two": 100 * torch.randn(4, 5, 2)}
    shift = (gate(main, others) - main).norm(dim=-1)
    assert torch.allclose(shift, beta * main.norm(dim=-1), rtol=1e-4)
    with torch.no_grad():
        for parameter in gate.projections.parameters():
            parameter.mul_(1e-8)
    assert (gate(main, others) - main).norm(dim=-1).max() < 1e-3


def test_closed_gates_leave_the_main_modality() -> None:
    gate = MultimodalAdaptationGate(6, {"one": 3}).eval()
    torch.nn.init.constant_(gate.gates["one"].bias, -1e4)  # type: ignore[arg-type]
    main = torch.randn(2, 4, 6, requires_grad=True)
    output = gate(main, {"one": torch.randn(2, 4, 3)})
    assert torch.allclose(output, gate.norm(main))
    output.square().sum().backward()
    assert main.grad is not None and main.grad.isfinite().all()


@pytest.mark.parametrize("encoder", ["lstm", "gru", "conv_bilstm"])
@pytest.mark.parametrize("main", ["text", "vision"])
def test_the_main_modality_keeps_its_steps(main: str, encoder: str) -> None:
    lengths = {"text": [4, 2, 1], "audio": [9, 12, 5], "vision": [3, 7, 7]}
    batch = make_batch(SPEC, lengths)
    model = build(main=main, encoder=encoder)
    assert set(model.gate.projections) == set(SPEC.modalities) - {main}
    embedded, others, steps = model._on_one_axis(batch)
    stride = 2 if encoder == "conv_bilstm" else 1
    assert steps.tolist() == [-(-n // stride) for n in lengths[main]]
    assert {x.shape[:2] for x in (embedded, *others.values())} == {(3, int(steps.max()))}
    assert model(batch).shape == (3, 3)


def test_every_modality_has_an_influence() -> None:
    batch = make_batch(SPEC, [4, 6])
    for encoder in ("lstm", "conv_bilstm"):
        model = build(encoder=encoder)
        with torch.no_grad():
            reference = model(batch)
            for name in SPEC.modalities:
                features = {**batch.features, name: batch.features[name] + 1}
                changed = model(MultimodalBatch(features, batch.lengths))
                assert (changed - reference).abs().max() > 1e-4, (encoder, name)


def test_steps_beyond_all_lengths_change_nothing() -> None:
    for aligned in (True, False):
        spec = DataSpec(SPEC.modalities, "regression", 1, aligned=aligned)
        batch = make_batch(spec, [4, 6])
        features = {m: torch.nn.functional.pad(x, (0, 0, 0, 3)) for m, x in batch.features.items()}
        longer = MultimodalBatch(features, batch.lengths)
        model = build(spec)
        assert torch.allclose(model(batch), model(longer), atol=1e-6), aligned


def test_errors_name_the_field() -> None:
    with pytest.raises(ConfigError, match="main: no modality 'sound' in the data"):
        build(main="sound")
    for options in ({"beta": 0}, {"frontend_kernel": 2}, {"pooling": "last"}, {"encoder": "bert"}):
        with pytest.raises(ValidationError):
            MAGConfig(**options)


def test_presets_build() -> None:
    for name, preset in PRESETS.items():
        TrainConfig(**preset.get("train", {}))
        if name == "bert":
            continue  # `test_bert_training` builds it, with a folder
        assert build(**preset["model"])(make_batch(SPEC, [5, 3])).shape == (2, 3)
