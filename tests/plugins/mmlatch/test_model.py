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
    # Two masks a modality: 100 -> inner -> 409 features in all, with biases.
    assert parameters(mask="boom") == 1_633_801 + 2 * (3 * 101 * 200 + 201 * 409)
    assert parameters(mask="downup") == 1_633_801 + 2 * (3 * 101 * 20 + 21 * 409)
    assert parameters(mask="linear", mask_includes_own=True) == 1_633_801 + 3 * 101 * 409


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


def test_two_modalities_mask_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DataSpec({"one": 3, "two": 4}, "classification", 2, aligned=True)
    model: Any = fk.create("mmlatch", spec, hidden_size=5).eval()
    batch = make_batch(spec, [4, 6])
    lengths = batch.lengths["one"]
    encoded = model._encode(dict(batch.features), lengths)
    mask = model.feedback["one"].mask([encoded["two"]], lengths)
    valid = (torch.arange(6) < lengths[:, None])[..., None]
    assert torch.allclose(model.explain(batch)["mask of one"], mask * valid, atol=1e-6)
    passes: list[Any] = []
    encode = model._encode

    def noted(inputs: Any, n: Any) -> Any:
        passes.append(inputs["one"])
        return encode(inputs, n)

    monkeypatch.setattr(model, "_encode", noted)
    model(batch)
    first, second = passes
    assert torch.equal(first, batch.features["one"])
    assert torch.allclose(second, first * mask, atol=1e-6)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", ["lstm", "linear", "boom", "downup"])
@pytest.mark.parametrize("aligned", [True, False])
def test_explanations_of_every_mask(kind: str, own: bool, aligned: bool) -> None:
    spec = DataSpec({"text": 3, "audio": 4, "vision": 2}, "regression", 1, aligned=aligned)
    model: Any = fk.create("mmlatch", spec, hidden_size=5, mask=kind, mask_includes_own=own).eval()
    lengths = {m: [4, 6] if aligned else [4 + k, 6 + k] for k, m in enumerate(spec.modalities)}
    found = model.explain(make_batch(spec, lengths))
    assert {name: x.shape for name, x in found.items()} == {
        f"mask of {m}": (2, 6, size) for m, size in spec.modalities.items()
    }
    for mask in found.values():
        assert ((mask[1] > 0) & (mask[1] < 1)).all()
        assert not mask[0, 4:].any()


def test_explanations_are_of_the_convolved_features() -> None:
    spec = DataSpec({"text": 3, "audio": 4}, "regression", 1)
    model: Any = fk.create("mmlatch", spec, hidden_size=5, frontend_size=6).eval()
    found = model.explain(make_batch(spec, {"text": [8], "audio": [11]}))
    assert {x.shape for x in found.values()} == {(1, 4, 6)}


def test_without_masks_there_is_nothing_to_explain() -> None:
    model: Any = fk.create("mmlatch", PAPER, hidden_size=5, mask=None)
    with pytest.raises(fk.ConfigError, match="no masks to show"):
        model.explain(make_batch(PAPER, [3]))


def test_the_own_modality_comes_in_its_place() -> None:
    model: Any = fk.create("mmlatch", PAPER, hidden_size=5, mask_includes_own=True)
    assert all(len(model.feedback[name].gates) == 3 for name in PAPER.modalities)
    alone: Any = fk.create("mmlatch", PAPER, hidden_size=5)
    assert all(len(alone.feedback[name].gates) == 2 for name in PAPER.modalities)


def test_dropout_inside_the_mask_networks() -> None:
    recurrent: Any = fk.create("mmlatch", PAPER, mask_rnn_dropout=0.3, mask_mlp_dropout=0.4)
    assert recurrent.feedback["text"].dropout.p == 0.3
    layers: Any = fk.create("mmlatch", PAPER, mask="boom", mask_rnn_dropout=0.3)
    assert {m.p for m in layers.feedback.modules() if hasattr(m, "p")} == {0.0, 0.2}


@pytest.mark.parametrize("preset", ["paper", "mosei", "released", "sensors"])
def test_presets_are_valid(preset: str) -> None:
    from fusionkit.data.source import DataConfig
    from fusionkit.training.config import TrainConfig
    from fusionkit_plugins.mmlatch.presets import PRESETS

    sections = PRESETS[preset]
    model = fk.create("mmlatch", PAPER, **sections.get("model", {}))
    TrainConfig(**sections.get("train", {}))
    assert set(sections) <= {"model", "train", "data"}
    DataConfig(**sections.get("data", {}))
    if preset != "sensors":
        assert sum(p.numel() for p in model.parameters()) == 2_741_153


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


@pytest.mark.parametrize(("axis", "steps"), [("shortest", [2, 1]), ("longest", [5, 4])])
def test_unaligned_modalities_share_one_time_axis(axis: str, steps: list[int]) -> None:
    spec = DataSpec({"text": 3, "audio": 4}, "regression", 1)
    model: Any = fk.create("mmlatch", spec, hidden_size=5, time_axis=axis).eval()
    batch = make_batch(spec, {"text": [2, 4], "audio": [5, 1]})
    inputs, lengths = model._inputs(batch)
    assert lengths.tolist() == steps
    assert all(x.shape[1] == max(steps) for x in inputs.values())
    if axis == "longest":
        repeated = inputs["audio"][1, :4]
        assert torch.allclose(repeated, batch.features["audio"][1, :1].expand(4, -1), atol=1e-6)
    alone = MultimodalBatch(
        {m: x[1:, :n] for (m, x), n in zip(batch.features.items(), (4, 1))},
        {m: n[1:] for m, n in batch.lengths.items()},
    )
    assert torch.allclose(model(batch)[1:], model(alone), atol=1e-6)
