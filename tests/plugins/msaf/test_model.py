"""MSAF beyond the released code: any modalities, lengths, options, presets."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fusionkit as fk
from fusionkit import DataSpec, MultimodalBatch
from fusionkit.registry import registry
from fusionkit.testing import make_batch
from fusionkit_plugins.msaf.config import MSAFConfig
from fusionkit_plugins.msaf.model import MSAF
from fusionkit_plugins.msaf.presets import PRESETS

MOSEI = DataSpec({"vision": 35, "audio": 74, "text": 768}, "regression", 1)
SMALL = DataSpec({"one": 3, "two": 4, "three": 2}, "classification", 5)
OPTIONS: dict[str, Any] = {"hidden_size": 6, "block_size": 4}


def test_sizes_of_the_paper() -> None:
    for preset in ("mosei", "released"):
        model = fk.create("msaf", MOSEI, **PRESETS[preset]["model"])
        assert sum(p.numel() for p in model.parameters()) == 689_337


@pytest.mark.parametrize("count", [2, 3, 5])
@pytest.mark.parametrize("layers", [2, 4])
def test_any_number_of_modalities_and_layers(count: int, layers: int) -> None:
    spec = DataSpec({f"m{k}": 3 + k for k in range(count)}, "multilabel", 2)
    model: Any = fk.create("msaf", spec, num_layers=layers, **OPTIONS)
    assert len(model.streams.fusions) == layers - 1
    for block in model.streams.fusions:
        assert block.num_blocks == (2,) * count
    assert model(make_batch(spec, [4, 6])).shape == (2, 2)


def test_one_modality_is_refused() -> None:
    with pytest.raises(fk.DataError, match="at least 2 modalities"):
        fk.create("msaf", DataSpec({"text": 3}, "regression", 1))


def padded_further(batch: MultimodalBatch, steps: int) -> MultimodalBatch:
    features = {m: torch.nn.functional.pad(x, (0, 0, 0, steps)) for m, x in batch.features.items()}
    return MultimodalBatch(features, batch.lengths, batch.targets, batch.ids)


def test_padding_matters_in_the_released_mode_only() -> None:
    batch = make_batch(SMALL, [4, 9, 1])
    for lengths, depends in (("true", False), ("padded", True)):
        torch.manual_seed(0)
        model = fk.create("msaf", SMALL, lengths=lengths, **OPTIONS).eval()
        with torch.no_grad():
            change = (model(batch) - model(padded_further(batch, 6))).abs().max()
        assert (change > 1e-4) == depends, lengths


def test_training_does_not_depend_on_padding_either() -> None:
    batch = make_batch(SMALL, [4, 9, 2])
    torch.manual_seed(0)
    model = fk.create("msaf", SMALL, block_dropout=0.0, **OPTIONS).train()
    assert torch.allclose(model(batch), model(padded_further(batch, 6)), atol=1e-6)


def test_no_fusion_and_no_attention() -> None:
    batch = make_batch(SMALL, [4, 9, 2])
    torch.manual_seed(0)
    identity = fk.create("msaf", SMALL, attention_floor=1.0, **OPTIONS).eval()
    apart: Any = fk.create("msaf", SMALL, fusion=False, **OPTIONS).eval()
    assert not apart.streams.fusions
    apart.load_state_dict(identity.state_dict(), strict=False)
    assert torch.allclose(identity(batch), apart(batch), atol=1e-6)


def test_block_dropout_acts_in_training_only() -> None:
    batch = make_batch(SMALL, [4, 9, 2])
    model = fk.create("msaf", SMALL, block_dropout=0.5, **OPTIONS).train()
    assert not torch.equal(model(batch), model(batch))
    assert torch.equal(model.eval()(batch), model(batch))


@pytest.mark.parametrize(
    "options",
    [
        {"frontend_kernel": 4},
        {"reduction": 17},
        {"num_layers": 1},
        {"hidden_size": 0},
        {"hidden_size": {"one": 0}},
        {"attention_floor": 1.1},
        {"block_dropout_mode": "twice"},
        {"num_segments": 0},
    ],
    ids=str,
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(fk.ConfigError, match=next(iter(options))):
        fk.create("msaf", SMALL, **options)


def test_sizes_of_an_unknown_modality() -> None:
    with pytest.raises(fk.ConfigError, match="hidden_size: no modality 'sound'"):
        fk.create("msaf", SMALL, hidden_size={"one": 2, "sound": 2})


def test_presets_and_ablations_are_valid() -> None:
    method = registry().get("method", "msaf")
    for preset in method.presets.values():
        MSAFConfig(**preset["model"])
    for options in method.ablations.values():
        fk.create("msaf", SMALL, **OPTIONS, **options)


def test_wrapped_networks_keep_their_weights_and_exchange() -> None:
    torch.manual_seed(0)
    networks = {
        name: torch.nn.Sequential(
            torch.nn.Conv1d(size, 8, 3), torch.nn.ReLU(), torch.nn.Conv1d(8, 5, 3)
        )
        for name, size in {"video": 4, "audio": 2}.items()
    }
    inputs = {"video": torch.randn(3, 4, 9), "audio": torch.randn(3, 2, 9)}
    alone = {name: networks[name](x) for name, x in inputs.items()}
    layers = [({"video": "1", "audio": "1"}, [8, 8])]
    off = MSAF.wrap(networks, layers, 4, reduction=2, floor=1.0).eval()
    for name, output in off(inputs).items():
        assert torch.allclose(output, alone[name], atol=1e-6)
        assert off.networks[name] is networks[name]
    on = MSAF.wrap(networks, layers, 4, reduction=2).eval()
    changed = {**inputs, "audio": 5 * inputs["audio"]}
    assert not torch.allclose(on(inputs)["video"], alone["video"])
    assert not torch.allclose(on(inputs)["video"], on(changed)["video"])
