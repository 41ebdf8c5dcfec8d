"""MulT beyond the released code: other numbers of modalities, padding, masks, options."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

import fusionkit as fk
from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn import crossmodal_transformer
from fusionkit.ops import AttentionPair, cross_attention_pairs, explain
from fusionkit.ops.extension import extension_status
from fusionkit.testing import make_batch
from fusionkit_plugins.mult.config import MulTConfig
from fusionkit_plugins.mult.lookahead import lookahead_mask

PAPER = DataSpec({"text": 300, "audio": 74, "vision": 35}, "regression", 1)
SPEC = DataSpec({"text": 3, "audio": 4, "vision": 2}, "regression", 1)
LENGTHS = {"text": [4, 6, 1], "audio": [9, 2, 5], "vision": [1, 7, 3]}
SMALL: dict[str, Any] = {"width": 8, "num_heads": 2, "num_layers": 2}


def create(spec: DataSpec = SPEC, **options: Any) -> Any:
    torch.manual_seed(0)
    return fk.create("mult", spec, **{**SMALL, **options}).eval()


def padded_further(batch: MultimodalBatch, steps: int, junk: float = 0.0) -> MultimodalBatch:
    features = {
        m: torch.nn.functional.pad(x, (0, 0, 0, steps), value=junk)
        for m, x in batch.features.items()
    }
    return MultimodalBatch(features, batch.lengths, batch.targets, batch.ids)


def test_size_of_the_released_defaults() -> None:
    assert sum(p.numel() for p in fk.create("mult", PAPER).parameters()) == 1_073_731


@pytest.mark.parametrize("count", [2, 3, 4])
def test_transformers_for_any_number_of_modalities(count: int) -> None:
    sizes = {f"m{k}": 3 + k for k in range(count)}
    model = create(DataSpec(sizes, "classification", 4))
    for target in sizes:
        assert list(model.crossmodal[target]) == [name for name in sizes if name != target]
        assert model.memory[target].norm.weight.shape == (8 * (count - 1),)
    assert model.head.inner1.in_features == 8 * (count - 1) * count
    assert model(make_batch(DataSpec(sizes, "classification", 4), [5, 2])).shape == (2, 4)


def test_default_dropouts_go_by_the_order_of_the_modalities() -> None:
    model = fk.create("mult", PAPER)
    encoders: Any = model.get_submodule("crossmodal")
    for target in PAPER.modalities:
        for source, encoder in encoders[target].items():
            wanted = 0.1 if source == "text" else 0.0
            assert encoder.layers[0].attention.dropout == wanted, (target, source)
    inputs: Any = model.get_submodule("input_dropout")
    assert {m: drop.p for m, drop in inputs.items()} == {"text": 0.25, "audio": 0.0, "vision": 0.0}


def test_memory_is_three_layers_deep_at_least() -> None:
    assert len(create(num_layers=1).memory["text"].layers) == 3
    assert len(create(num_layers=4).memory["text"].layers) == 4
    assert len(create(num_layers=4, memory_layers=1).memory["text"].layers) == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attn_mask": True},
        {"kernel_size": 3},
        {"kernel_size": {"audio": 5}, "width": 4, "pooling": "mean"},
        {"feedback": "lstm", "pooling": "max"},
        {"frontend_size": 5, "frontend_stride": {"audio": 3}, "pooling": "mean_max"},
    ],
    ids=lambda options: "-".join(options) or "default",
)
def test_padding_changes_nothing_by_default(options: dict[str, Any]) -> None:
    model, batch = create(**options), make_batch(SPEC, LENGTHS)
    with torch.no_grad():
        want = model(batch)
        assert torch.allclose(model(padded_further(batch, 3)), want, atol=1e-5)
        assert torch.allclose(model(padded_further(batch, 2, torch.nan)), want, atol=1e-5)


def test_not_a_number_on_padding_spoils_no_gradient() -> None:
    model, batch = create(feedback="linear"), make_batch(SPEC, LENGTHS)
    model(padded_further(batch, 2, torch.nan)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


def test_released_behaviour_depends_on_padding() -> None:
    batch = make_batch(SPEC, LENGTHS)
    model = create(lengths="padded")
    with torch.no_grad():
        assert (model(batch) - model(padded_further(batch, 3))).abs().max() > 1e-4


def test_released_positions_depend_on_a_zero() -> None:
    spec = DataSpec({"text": 8, "audio": 4}, "regression", 1)
    batch = make_batch(spec, [4, 6])
    batch.features["text"][0, 2, 0] = 0.0
    released, corrected = create(spec, positions="released"), create(spec)
    released.load_state_dict(corrected.state_dict())
    with torch.no_grad():
        difference = (released(batch) - corrected(batch)).abs().squeeze(1)
    assert difference[0] > 1e-4 and difference[1] < 1e-6


def test_last_valid_step_is_read() -> None:
    model, batch = create(), make_batch(SPEC, LENGTHS)
    inputs, lengths = model._inputs(batch)
    memories = model._encode(inputs, lengths)
    want = torch.stack(
        [
            torch.cat([memories[m][row, LENGTHS[m][row] - 1] for m in SPEC.modalities])
            for row in range(3)
        ]
    )
    assert torch.equal(model.summary(batch), want)


def test_lookahead_goes_by_each_samples_lengths() -> None:
    mask = lookahead_mask(torch.tensor([2, 4]), torch.tensor([5, 3]), 4, 5)
    assert mask.shape == (2, 1, 4, 5)
    for row, difference in enumerate((3, 1)):
        for i in range(4):
            for j in range(5):
                assert (mask[row, 0, i, j] == 0) == (j <= i + difference)
                assert mask[row, 0, i, j] in (0, -torch.inf)


def test_chosen_targets() -> None:
    model, batch = create(targets=["vision", "text"]), make_batch(SPEC, LENGTHS)
    assert model.targets == ("text", "vision")
    assert list(model.crossmodal) == list(model.memory) == ["text", "vision"]
    assert model.summary(batch).shape == (3, 2 * 16)
    assert model(batch).shape == (3, 1)


def test_what_has_the_width_is_not_projected() -> None:
    spec = DataSpec({"text": 8, "audio": 4}, "regression", 1)
    assert list(create(spec).projections) == ["audio"]
    assert list(create(spec, kernel_size=3).projections) == ["text", "audio"]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("kind", ["lstm", "linear", "boom", "downup"])
def test_feedback_masks_the_inputs(aligned: bool, kind: str) -> None:
    spec = DataSpec(SPEC.modalities, "regression", 1, aligned=aligned)
    model = create(spec, feedback=kind)
    batch = make_batch(spec, [4, 6, 1] if aligned else LENGTHS)
    masks = model.explain(batch)
    assert set(masks) == {f"mask of {m}" for m in spec.modalities}
    for m, size in spec.modalities.items():
        assert masks[f"mask of {m}"].shape == (3, batch.features[m].shape[1], size)

    inputs, lengths = model._inputs(batch)
    second = model._encode({m: x * masks[f"mask of {m}"] for m, x in inputs.items()}, lengths)
    want = torch.cat([model._pool(second[m], lengths[m]) for m in spec.modalities], dim=-1)
    assert torch.allclose(model.summary(batch), want, atol=1e-5)

    plain = create(spec)
    plain.load_state_dict(model.state_dict(), strict=False)
    assert not torch.allclose(plain(batch), model(batch), atol=1e-5)


def test_gradients_flow_through_the_masks() -> None:
    model, batch = create(feedback="lstm"), make_batch(SPEC, LENGTHS)
    model(batch).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.feedback.parameters())


def test_no_masks_to_explain() -> None:
    with pytest.raises(fk.ConfigError, match="no masks"):
        create().explain(make_batch(SPEC, LENGTHS))


def test_a_modality_without_a_step() -> None:
    batch = make_batch(SPEC, {**LENGTHS, "audio": [0, 2, 5]})
    model = create()
    assert bool(model(batch).isfinite().all())
    assert not model.summary(batch)[0, 16:32].any()


def test_all_attentions_of_a_depth_are_one_compiled_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, str]] = []

    def spy(pairs: list[AttentionPair], *, dropout_p: float) -> list[torch.Tensor]:
        lines = explain("cross_attention_pairs", pairs, dropout_p=dropout_p).splitlines()[1:]
        chosen = next(line.split()[0] for line in lines if line.split()[1] == "chosen")
        calls.append((len(pairs), chosen))
        return cross_attention_pairs(pairs, dropout_p=dropout_p)

    monkeypatch.setattr(crossmodal_transformer, "cross_attention_pairs", spy)
    backend = "cpu" if extension_status().available else "reference"
    batch = make_batch(SPEC, LENGTHS)
    model = create()
    model(batch)
    assert calls == 2 * [(6, backend)] + 3 * [(3, backend)]

    calls.clear()
    model.train()(batch)
    by_text, others, memories = (2, backend), (4, backend), (3, backend)
    assert sorted(calls[:4]) == sorted(2 * [by_text, others]) and calls[4:] == 3 * [memories]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "3 heads do not divide width 8"),
        ({"kernel_size": 2}, "must be odd"),
        ({"kernel_size": {"text": 4}}, "must be odd"),
        ({"frontend_kernel": 4}, "must be odd"),
        ({"targets": ["text", "text"]}, "named twice"),
        ({"targets": []}, "targets"),
        ({"feedback": "lstm", "targets": ["text"]}, "leave targets at null"),
        ({"attention_dropout": 1.0}, "attention_dropout"),
        ({"attention_dropout": {"text": -0.1}}, "attention_dropout"),
        ({"frontend_stride": 0}, "frontend_stride"),
        ({"pooling": "sum"}, "pooling"),
        ({"num_layers": 0}, "num_layers"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MulTConfig(**{**SMALL, **options})
    with pytest.raises(fk.ConfigError):
        create(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"targets": ["sound"]},
        {"kernel_size": {"sound": 3}},
        {"attention_dropout": {"sound": 0.1}},
        {"input_dropout": {"sound": 0.1}},
        {"frontend_size": 4, "frontend_stride": {"sound": 2}},
    ],
    ids=lambda options: list(options)[-1],
)
def test_options_of_an_unknown_modality(options: dict[str, Any]) -> None:
    field = list(options)[-1]
    with pytest.raises(fk.ConfigError, match=f"{field}: no modality 'sound'"):
        create(**options)


def test_one_modality_is_refused() -> None:
    with pytest.raises(fk.DataError, match="at least 2 modalities"):
        create(DataSpec({"text": 3}, "regression", 1))
