"""Early fusion against a loop over single samples, on both time axes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.testing import make_batch
from fusionkit_plugins.early_fusion.config import EarlyFusionConfig
from fusionkit_plugins.early_fusion.model import EarlyFusion

SPEC = DataSpec({"text": 3, "audio": 2}, "classification", 4)
LENGTHS = {"text": [4, 2, 3], "audio": [8, 4, 1]}


def build(aligned: bool = False, **options: Any) -> EarlyFusion:
    torch.manual_seed(0)
    spec = DataSpec(SPEC.modalities, SPEC.task, SPEC.num_outputs, aligned=aligned)
    return EarlyFusion(EarlyFusionConfig(hidden_size=5, **options), spec).eval()


def test_last_valid_state_of_a_torch_lstm() -> None:
    model, batch = build(aligned=True), make_batch(SPEC, [5, 1, 3])
    encoder: Any = model.encoder
    lstm = torch.nn.LSTM(5, 5, batch_first=True)
    lstm.load_state_dict(encoder.rnn.state_dict())
    for row, length in enumerate([5, 1, 3]):
        x = torch.cat([batch.features[m][row, :length] for m in SPEC.modalities], dim=-1)
        expected = model.classifier(lstm(x[None])[0][:, -1])
        assert torch.allclose(model(batch)[row], expected[0], atol=1e-6)


def test_longest_axis_repeats_frames() -> None:
    batch = make_batch(SPEC, LENGTHS)
    joined, lengths = build().joined(batch)
    assert lengths.tolist() == [8, 4, 3]
    assert joined.shape == (3, 8, 5)
    assert torch.allclose(joined[0, :, :3], batch.features["text"][0].repeat_interleave(2, dim=0))
    assert torch.allclose(joined[0, :, 3:], batch.features["audio"][0])
    # A single frame, such as a vector for the whole clip, stands beside every step.
    assert torch.allclose(joined[2, :3, 3:], batch.features["audio"][2, :1].expand(3, -1))
    assert not joined[1, 4:].any()


def test_shortest_axis_averages_frames() -> None:
    batch = make_batch(SPEC, LENGTHS)
    joined, lengths = build(time_axis="shortest").joined(batch)
    assert lengths.tolist() == [4, 2, 1]
    pairs = batch.features["audio"][0].reshape(4, 2, 2).mean(dim=1)
    assert torch.allclose(joined[0, :, 3:], pairs, atol=1e-6)
    assert torch.allclose(joined[2, 0, :3], batch.features["text"][2, :3].mean(dim=0), atol=1e-6)


def test_aligned_data_are_not_resampled(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **options: object) -> None:
        raise AssertionError("resampled")

    monkeypatch.setattr("fusionkit_plugins.early_fusion.model.onto_one_axis", never)
    batch = make_batch(SPEC, [4, 2])
    joined, lengths = build(aligned=True).joined(batch)
    assert lengths.tolist() == [4, 2]
    assert torch.equal(joined, torch.cat([batch.features[m] for m in SPEC.modalities], dim=-1))
    with pytest.raises(AssertionError, match="resampled"):
        build().joined(batch)


@pytest.mark.parametrize("options", [{}, {"encoder_kind": "sequence"}, {"encoder_layers": 2}])
@pytest.mark.parametrize("axis", ["longest", "shortest"])
def test_nan_on_padding_has_no_influence(axis: str, options: dict[str, Any]) -> None:
    model, batch = build(time_axis=axis, **options), make_batch(SPEC, LENGTHS)
    features = {m: x.clone() for m, x in batch.features.items()}
    for m, x in features.items():
        for row, length in enumerate(LENGTHS[m]):
            x[row, length:] = torch.nan
    spoilt = MultimodalBatch(features, batch.lengths)
    assert torch.allclose(model(spoilt), model(batch), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"frontend_kernel": 4},
        {"encoder_kind": "sequence", "encoder_layers": 2},
        {"time_axis": "text"},
        {"hidden_size": 0},
    ],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        EarlyFusionConfig(**options)
