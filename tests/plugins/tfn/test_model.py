"""TFN beyond the released code: other modalities and tasks, padding, limits, presets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fusionkit import ConfigError, DataSpec, MultimodalBatch
from fusionkit.testing import make_batch
from fusionkit.training.config import TrainConfig
from fusionkit_plugins.tfn.config import TFNConfig
from fusionkit_plugins.tfn.model import MAX_TENSOR_SIZE, TFN
from fusionkit_plugins.tfn.presets import PRESETS

SPEC = DataSpec({"text": 3, "audio": 4, "vision": 2}, "regression", 1)
MOSI = DataSpec({"text": 300, "audio": 5, "vision": 20}, "regression", 1, aligned=True)
SMALL: dict[str, Any] = {
    "hidden_size": 3,
    "recurrent_hidden_size": 4,
    "recurrent_output_size": 2,
    "post_fusion_size": 5,
}


def build(spec: DataSpec = SPEC, **options: Any) -> TFN:
    torch.manual_seed(0)
    return TFN(TFNConfig(**{**SMALL, **options}), spec).eval()


def padded_further(batch: MultimodalBatch) -> MultimodalBatch:
    features = {m: torch.nn.functional.pad(x, (0, 0, 0, 3)) for m, x in batch.features.items()}
    return MultimodalBatch(features, batch.lengths, batch.targets, batch.ids)


def test_sizes_of_the_paper() -> None:
    model = TFN(TFNConfig(**PRESETS["mosi"]["model"]), MOSI)
    assert model.encoders.output_sizes == {"text": 64, "audio": 4, "vision": 16}
    assert model.post_fusion_1.in_features == 65 * 5 * 17
    text = 4 * 128 * (300 + 128 + 2) + 64 * 129
    audio, vision = 2 * 5 + 4 * 6 + 2 * 4 * 5, 2 * 20 + 16 * 21 + 2 * 16 * 17
    head = 32 * (65 * 5 * 17 + 1) + 32 * 33 + 33
    assert sum(p.numel() for p in model.parameters()) == text + audio + vision + head


@pytest.mark.parametrize("count", [2, 3, 4])
def test_any_number_of_modalities(count: int) -> None:
    spec = DataSpec({f"m{k}": 2 + k for k in range(count)}, "classification", 4)
    model = build(spec)
    assert model.post_fusion_1.in_features == 3 * 4 ** (count - 1)
    assert model(make_batch(spec, [3, 5])).shape == (2, 4)


def test_recurrent_modalities_are_chosen_by_name() -> None:
    kinds = {n: type(m).__name__ for n, m in build(recurrent=["vision"]).encoders.of.items()}
    assert kinds == {
        "text": "MeanSubNetwork", "audio": "MeanSubNetwork", "vision": "RecurrentSubNetwork"
    }  # fmt: skip
    assert type(build().encoders.of["text"]).__name__ == "RecurrentSubNetwork"
    own = build(hidden_size={"audio": 7}).encoders.output_sizes
    assert own == {"text": 2, "audio": 7, "vision": 16}
    for options in ({"recurrent": ["sound"]}, {"hidden_size": {"sound": 4}}):
        with pytest.raises(ConfigError, match="no modality 'sound' in the data"):
            build(**options)


def test_a_product_that_is_too_large_is_refused_with_its_sizes() -> None:
    build(hidden_size=99, recurrent_output_size=99)
    assert MAX_TENSOR_SIZE == 1_000_000
    with pytest.raises(ConfigError, match=r"\(100 text \+ 1\) x .*1010000 numbers.*lower hidden"):
        build(hidden_size=99, recurrent_output_size=100)


def test_padding_counts_only_as_released() -> None:
    batch = make_batch(SPEC, [4, 6, 1])
    with torch.no_grad():
        corrected, released = build(), build(lengths="padded")
        same = corrected(batch) - corrected(padded_further(batch))
        assert same.abs().max() < 1e-6
        assert (released(batch) - released(padded_further(batch))).abs().max() > 1e-4


def test_the_output_range_holds_and_is_for_regression() -> None:
    batch = make_batch(SPEC, [4, 6, 1])
    linear, bounded = build(), build(output_range=(-1.0, 2.0))
    with torch.no_grad():
        for model in (linear, bounded):
            model.post_fusion_3.weight *= 1e3
        assert linear(batch).abs().max() > 2
        assert bounded(batch).min() >= -1 and bounded(batch).max() <= 2
        want = torch.sigmoid(linear(batch)) * 3 - 1
        assert torch.allclose(bounded(batch), want)
    with pytest.raises(ConfigError, match="for regression, not for classification"):
        build(DataSpec({"one": 2, "two": 2}, "classification", 3), output_range=(-1.0, 1.0))


@pytest.mark.parametrize(
    "options",
    [
        {"hidden_size": 0},
        {"hidden_size": {"audio": 0}},
        {"frontend_kernel": 4},
        {"output_range": (1.0, 1.0)},
        {"encoder": "mlp"},
    ],
)
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TFNConfig(**options)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_build(name: str) -> None:
    preset = PRESETS[name]
    TrainConfig(**preset.get("train", {}))
    if name == "sensors":
        sensors = DataSpec({"skeleton": 120, "inertial": 12}, "classification", 27)
        model = TFN(TFNConfig(**preset["model"]), sensors).eval()
        assert model(make_batch(sensors, {"skeleton": [9, 4], "inertial": [20, 7]})).shape == (
            2,
            27,
        )
    else:
        assert TFN(TFNConfig(**preset["model"]), MOSI).eval()(make_batch(MOSI, [3])).shape == (1, 1)
