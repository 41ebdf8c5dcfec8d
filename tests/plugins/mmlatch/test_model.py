"""MMLatch beyond the released code: other numbers of modalities, padding, unaligned inputs."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError

import fusionkit as fk
from fusionkit import DataSpec, MultimodalBatch
from fusionkit.testing import make_batch

PAPER = DataSpec({"text": 300, "audio": 74, "vision": 35}, "regression", 1, aligned=True)


def parameters(**options: object) -> int:
    return sum(p.numel() for p in fk.create("mmlatch", PAPER, **options).parameters())


def test_sizes_of_the_paper() -> None:
    assert parameters() == 2_741_153
    assert parameters(mask="linear") == 1_716_419
    assert parameters(mask=None) == 1_633_801


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_streams_and_masks_for_any_number_of_modalities(count: int) -> None:
    sizes = {f"m{k}": 3 + k for k in range(count)}
    model: Any = fk.create("mmlatch", DataSpec(sizes, "classification", 4), hidden_size=5)
    streams = count + math.comb(count, 2) + (count >= 3)
    assert model.fuser.attention.output_size == 5 * streams
    assert (model.fuser.attention.trimodal is None) == (count < 3)
    for name, size in sizes.items():
        assert len(model.feedback[name].gates) == count - 1
        assert model.feedback[name].gates[0].hidden_size == size


def test_two_modalities_mask_each_other() -> None:
    spec = DataSpec({"one": 3, "two": 4}, "classification", 2, aligned=True)
    model: Any = fk.create("mmlatch", spec, hidden_size=5).eval()
    batch = make_batch(spec, [4, 6])
    encoded = model._encode(dict(batch.features), batch.lengths["one"])
    masked = model._masked(batch.features, encoded, batch.lengths["one"])
    mask = model.feedback["one"].mask([encoded["two"]], batch.lengths["one"])
    assert torch.allclose(masked["one"], batch.features["one"] * mask, atol=1e-6)


def test_one_modality_is_refused() -> None:
    with pytest.raises(fk.DataError, match="at least 2 modalities"):
        fk.create("mmlatch", DataSpec({"text": 3}, "regression", 1))


def padded_further(batch: MultimodalBatch, steps: int) -> MultimodalBatch:
    features = {m: torch.nn.functional.pad(x, (0, 0, 0, steps)) for m, x in batch.features.items()}
    return MultimodalBatch(features, batch.lengths, batch.targets, batch.ids)


@pytest.mark.parametrize("aligned", [True, False])
def test_more_padding_changes_nothing_by_default(aligned: bool) -> None:
    spec = DataSpec({"text": 3, "audio": 4, "vision": 2}, "regression", 1, aligned=aligned)
    model: Any = fk.create("mmlatch", spec, hidden_size=5).eval()
    batch = make_batch(spec, [4, 6, 1])
    assert torch.allclose(model(batch), model(padded_further(batch, 3)), atol=1e-6)


def test_released_behaviour_depends_on_padding() -> None:
    spec = DataSpec({"text": 3, "audio": 4, "vision": 2}, "regression", 1, aligned=True)
    for options in ({"lengths": "padded"}, {"padding_in_fuser": True}):
        model: Any = fk.create("mmlatch", spec, hidden_size=5, **options).eval()
        batch = make_batch(spec, [4, 6, 1])
        with torch.no_grad():
            change = (model(batch) - model(padded_further(batch, 3))).abs().max()
        assert change > 1e-4, options


def test_mask_dropout_at_eval() -> None:
    spec = DataSpec({"text": 3, "audio": 4}, "regression", 1, aligned=True)
    batch = make_batch(spec, [4, 6])
    corrected = fk.create("mmlatch", spec, hidden_size=5).eval()
    assert torch.equal(corrected(batch), corrected(batch))
    released = fk.create("mmlatch", spec, hidden_size=5, mask_dropout_at_eval=True).eval()
    assert not torch.equal(released(batch), released(batch))


def test_unaligned_lengths_are_brought_together() -> None:
    spec = DataSpec({"skeleton": 3, "inertial": 4}, "classification", 3)
    model: Any = fk.create("mmlatch", spec, hidden_size=5).eval()
    batch = make_batch(spec, {"skeleton": [4, 2], "inertial": [9, 12]})
    inputs, lengths = model._inputs(batch)
    assert lengths.tolist() == [4, 2]
    assert {x.shape[1] for x in inputs.values()} == {4}
    assert torch.allclose(inputs["skeleton"], batch.features["skeleton"], atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"frontend_kernel": 4},
        {"padding_in_fuser": True, "pooling": "mean"},
        {"encoder_layers": 0},
        {"hidden_size": 0},
        {"mask": "conv"},
    ],
)
def test_bad_options(options: dict[str, object]) -> None:
    from fusionkit_plugins.mmlatch.config import MMLatchConfig

    with pytest.raises(ValidationError):
        MMLatchConfig(**options)
    with pytest.raises(fk.ConfigError):
        fk.create("mmlatch", PAPER, **options)


def test_layers_of_an_unknown_modality() -> None:
    with pytest.raises(fk.ConfigError, match="no modality 'sound'"):
        fk.create("mmlatch", PAPER, encoder_layers={"sound": 2})
