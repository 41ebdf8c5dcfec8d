"""MMTM on sequences, which is ours: modalities, stages, lengths, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fusionkit as fk
from fusionkit import DataSpec, MultimodalBatch
from fusionkit.registry import registry
from fusionkit.testing import make_batch
from fusionkit_plugins.mmtm.config import MMTMConfig

SMALL = DataSpec({"one": 3, "two": 4, "three": 2}, "classification", 5)


@pytest.mark.parametrize("encoder", ["lstm", "gru", "conv"])
@pytest.mark.parametrize("count", [2, 4])
def test_any_modalities_and_stages(encoder: str, count: int) -> None:
    spec = DataSpec({f"m{k}": 3 + k for k in range(count)}, "regression", 2)
    model: Any = fk.create("mmtm", spec, encoder=encoder, num_layers=3, hidden_size=6)
    assert len(model.streams.fusions) == 2
    for block in model.streams.fusions:
        assert block.squeezed_size == 6 * count * 2 // 4
    assert model(make_batch(spec, [4, 6])).shape == (2, 2)


def test_gate_scale() -> None:
    for scale in (1.0, 2.0):
        model: Any = fk.create("mmtm", SMALL, hidden_size=6, gate_scale=scale)
        (block,) = model.streams.fusions
        for layer in block.excitations:
            torch.nn.init.zeros_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
        x = [torch.randn(2, 6, 5) for _ in range(3)]
        for out, own in zip(block(x), x):
            assert torch.equal(out, own * scale / 2)


def test_padding_matters_in_the_released_mode_only() -> None:
    batch = make_batch(SMALL, [4, 9, 1])
    further = MultimodalBatch(
        {m: torch.nn.functional.pad(x, (0, 0, 0, 6)) for m, x in batch.features.items()},
        batch.lengths,
    )
    for lengths, depends in (("true", False), ("padded", True)):
        torch.manual_seed(0)
        model = fk.create("mmtm", SMALL, lengths=lengths, hidden_size=6).eval()
        with torch.no_grad():
            change = (model(batch) - model(further)).abs().max()
        assert (change > 1e-4) == depends, lengths


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 4},
        {"frontend_kernel": 4},
        {"bidirectional": True, "encoder": "conv"},
        {"num_layers": 1},
        {"hidden_size": 0},
        {"frontend_stride": {"one": 0}},
        {"ratio": 0},
        {"gate_scale": 0},
        {"ratio": 1000, "hidden_size": 6},
    ],
    ids=str,
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(fk.ConfigError, match=next(iter(options))):
        fk.create("mmtm", SMALL, **options)


def test_one_modality_is_refused() -> None:
    with pytest.raises(fk.DataError, match="at least 2 modalities"):
        fk.create("mmtm", DataSpec({"text": 3}, "regression", 1))


def test_presets_and_ablations_are_valid() -> None:
    method = registry().get("method", "mmtm")
    for preset in method.presets.values():
        MMTMConfig(**preset["model"])
    for options in method.ablations.values():
        fk.create("mmtm", SMALL, hidden_size=6, **options)
