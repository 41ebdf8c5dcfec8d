"""MAG-BERT: the gate behind the embedding layer of a local BERT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from fusionkit import ConfigError, DataError, DataSpec, MultimodalBatch
from fusionkit.nn import local_bert, resample
from fusionkit_plugins.mag.bert import GatedBert
from fusionkit_plugins.mag.config import BertSizes, MAGConfig
from fusionkit_plugins.mag.model import MAG
from fusionkit_plugins.mag.parameters import parameter_groups

SIZES = {"text": 2, "visual": 3, "acoustic": 4}
VOCABULARY, MOST = 30, 12
BERT_SIZES = {
    "vocabulary": VOCABULARY, "hidden_size": 64, "layers": 2, "heads": 1, "intermediate_size": 24,
    "max_tokens": MOST,
}  # fmt: skip


def spec(aligned: bool = True) -> DataSpec:
    return DataSpec(SIZES, "regression", 2, aligned=aligned)


def build(folder: Path, *, aligned: bool = True, **options: Any) -> GatedBert:
    torch.manual_seed(0)
    return GatedBert(MAGConfig(bert=str(folder), **options), spec(aligned))


def make_batch(lengths: Mapping[str, list[int]] | None = None) -> MultimodalBatch:
    """Ids in column 0 of ``text``, something that is no id in column 1; zero padding."""
    generator = torch.Generator().manual_seed(0)
    counts = {m: torch.tensor((lengths or {}).get(m, [6, 2, 4])) for m in SIZES}
    features = {
        m: torch.randn(3, int(counts[m].max()), size, generator=generator)
        for m, size in SIZES.items()
    }
    shape = features["text"].shape[:2]
    features["text"][..., 0] = torch.randint(1, VOCABULARY, shape, generator=generator).float()
    for m, x in features.items():
        x[torch.arange(x.shape[1]) >= counts[m][:, None]] = 0
    return MultimodalBatch(features, counts)


def changed(batch: MultimodalBatch, name: str, place: Any, value: float) -> MultimodalBatch:
    features = {m: x.clone() for m, x in batch.features.items()}
    features[name][place] = value
    return replace(batch, features=features)


def pooled_by_transformers(model: GatedBert, batch: MultimodalBatch, gate: bool) -> Tensor:
    """What the unchanged forward pass of transformers pools, sample by sample without padding."""
    transformers = pytest.importorskip("transformers", reason="package transformers is missing")
    own = transformers.BertModel(model.bert.config).eval()
    own.load_state_dict(model.bert.state_dict())
    found = []
    for row, length in enumerate(batch.lengths["text"].tolist()):
        others = {m: batch.features[m][row : row + 1, :length] for m in ("visual", "acoustic")}
        if gate:
            handle = own.embeddings.register_forward_hook(
                lambda module, inputs, words, others=others: model.gate(words, others)
            )
        ids = batch.features["text"][row : row + 1, :length, 0].long()
        found.append(own(input_ids=ids).pooler_output)
        if gate:
            handle.remove()
    return torch.cat(found)


@pytest.mark.parametrize("gate", [True, False], ids=["gated", "identity"])
def test_it_is_bert_around_the_gate(bert_folder: Path, gate: bool) -> None:
    model, batch = build(bert_folder).eval(), make_batch()
    if not gate:
        # No shift, and a norm of what is normed already: the gate gives its input.
        model.gate.norm.eps = 0.0
        for projection in model.gate.projections.values():
            torch.nn.init.zeros_(projection.weight)  # type: ignore[arg-type]
        torch.nn.init.ones_(model.bert.embeddings.LayerNorm.weight)
        torch.nn.init.zeros_(model.bert.embeddings.LayerNorm.bias)
    else:
        for projection in model.gate.projections.values():
            torch.nn.init.normal_(projection.weight)  # type: ignore[arg-type]
    pooled = pooled_by_transformers(model, batch, gate)
    torch.testing.assert_close(model(batch), model.classifier(pooled))
    assert torch.allclose(pooled, pooled_by_transformers(model, batch, False), atol=1e-3) != gate


def test_every_modality_and_every_token_counts(bert_folder: Path) -> None:
    model, batch = build(bert_folder).eval(), make_batch()
    with torch.no_grad():
        for parameter in model.gate.projections.parameters():
            parameter.mul_(50)
        reference = model(batch)
        for name in SIZES:
            for step in (0, 5):
                got = model(changed(batch, name, (0, step, 0), 7.0))
                assert (got - reference)[0].abs().max() > 1e-4, (name, step)
                assert torch.equal(got[1:], reference[1:])


@pytest.mark.parametrize("aligned", [True, False])
def test_batch_mates_and_padding_change_nothing(bert_folder: Path, aligned: bool) -> None:
    lengths = {} if aligned else {"visual": [3, 9, 1], "acoustic": [6, 5, 7]}
    model, batch = build(bert_folder, aligned=aligned).eval(), make_batch(lengths)
    reference = model(batch)
    for row in range(3):
        alone = MultimodalBatch(
            {m: x[row : row + 1, : batch.lengths[m][row]] for m, x in batch.features.items()},
            {m: n[row : row + 1] for m, n in batch.lengths.items()},
        )
        torch.testing.assert_close(model(alone), reference[row : row + 1], rtol=1e-4, atol=1e-5)
    junk = changed(batch, "text", (1, slice(2, None)), -1e3)
    if aligned:
        junk = changed(junk, "visual", (1, slice(2, None)), 1e3)
    torch.testing.assert_close(model(junk), reference, rtol=1e-4, atol=1e-5)


def test_unaligned_others_are_brought_onto_the_tokens(bert_folder: Path) -> None:
    batch = make_batch({"visual": [3, 9, 1], "acoustic": [6, 5, 7]})
    steps = batch.lengths["text"]
    others = {
        m: resample(batch.features[m], batch.lengths[m], steps) for m in ("visual", "acoustic")
    }
    aligned = MultimodalBatch({**batch.features, **others}, dict.fromkeys(SIZES, steps))
    expected = build(bert_folder).eval()(aligned)
    assert torch.equal(build(bert_folder, aligned=False).eval()(batch), expected)


@pytest.mark.parametrize("half", [True, False])
def test_a_sample_without_tokens_is_finite_and_alone(bert_folder: Path, half: bool) -> None:
    model, batch = build(bert_folder, aligned=False), make_batch({"text": [6, 0, 2]})
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = model.train()(batch)
    output.float().square().sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    shorter = MultimodalBatch(
        {m: x[1:] for m, x in batch.features.items()}, {m: n[1:] for m, n in batch.lengths.items()}
    )
    torch.testing.assert_close(model.eval()(shorter)[0], model(batch)[1])


class Plain(torch.nn.Module):
    """A model that takes dictionaries: tracing knows them, it does not know a batch."""

    def __init__(self, model: GatedBert) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: dict[str, Tensor], lengths: dict[str, Tensor]) -> Tensor:
        output: Tensor = self.model(MultimodalBatch(features, lengths))
        return output


@torch.no_grad()
def test_it_is_one_graph_on_aligned_data(bert_folder: Path) -> None:
    model, batch = Plain(build(bert_folder).eval()), make_batch()
    inputs = dict(batch.features), dict(batch.lengths)
    reference = model(*inputs)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), reference)
    exported = torch.export.export(model, inputs).module()
    torch.testing.assert_close(exported(*inputs), reference)


@pytest.mark.parametrize("finetune", [True, False])
def test_gradients_reach_the_gate_and_a_bert_that_is_trained(
    bert_folder: Path, finetune: bool
) -> None:
    model = build(bert_folder, bert_finetune=finetune, gate_dropout=0.0).train()
    outputs = model(make_batch()), model(make_batch())
    # BERT's own dropout is on where it is trained.
    assert torch.equal(*outputs) != finetune
    outputs[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        if name == "bert.embeddings.token_type_embeddings.weight" and finetune:
            assert parameter.grad is not None and parameter.grad[0].any()
        elif name.startswith("bert.") and not finetune:
            assert parameter.grad is None and not parameter.requires_grad, name
        elif ".key.bias" not in name:  # zero in exact arithmetic
            assert parameter.grad is not None and parameter.grad.any(), name
    assert model.bert.training == finetune and model.gate.training
    assert not model.eval().bert.training


def test_new_layers_start_as_in_bert(bert_folder: Path) -> None:
    model = build(bert_folder)
    for module in (*model.gate.gates.values(), *model.gate.projections.values(), model.classifier):
        assert isinstance(module, torch.nn.Linear)
        assert 0.1 < module.weight.std().item() < 0.3 and not module.bias.any()


@pytest.mark.parametrize("value", [0.5, -1.0, float(VOCABULARY), float("nan")])
def test_what_is_no_id_is_an_error(bert_folder: Path, value: float) -> None:
    with pytest.raises(DataError, match=r"whole numbers from 0 to 29, and holds"):
        build(bert_folder)(changed(make_batch(), "text", (0, 3, 0), value))


def test_too_many_tokens_are_an_error(bert_folder: Path) -> None:
    with pytest.raises(DataError, match="13 tokens, the model takes at most 12"):
        build(bert_folder)(make_batch({m: [13, 1, 1] for m in SIZES}))


def test_wrong_folders_are_one_error(
    bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers", reason="package transformers is missing")
    with pytest.raises(ConfigError, match=r"bert: .* is no folder"):
        build(tmp_path / "none")
    with pytest.raises(ConfigError, match="main: no modality 'words'"):
        build(bert_folder, main="words")
    config = transformers.DistilBertConfig(vocab_size=5, dim=8, n_layers=1, n_heads=1, hidden_dim=4)
    transformers.DistilBertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"a model of the kind 'distilbert'; .* 'bert'"):
        build(tmp_path)
    monkeypatch.setattr(local_bert, "find_spec", lambda name: None)
    for options in ({"bert": str(bert_folder)}, {"bert_sizes": BERT_SIZES}):
        with pytest.raises(ConfigError, match=r"'transformers' is missing; pip install"):
            GatedBert(MAGConfig(**options), spec())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "gru"}, "encoder is of the recurrent network that a BERT replaces"),
        ({"hidden_size": 32}, "hidden_size is of the recurrent network"),
        ({"pooling": "max"}, "pooling is of the recurrent network"),
        ({"bert_sizes": BERT_SIZES}, "bert and bert_sizes exclude each other"),
        ({"bert": "", "bert_finetune": False}, "bert_finetune=false goes with bert=FOLDER alone"),
        ({"bert": "", "bert_sizes": {**BERT_SIZES, "heads": 7}}, "heads 7 do not divide"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MAGConfig(**{"bert": "folder", **options})


def test_stored_options_are_read_again() -> None:
    for options in ({"bert": "folder"}, {"bert_sizes": BERT_SIZES}):
        config = MAGConfig(**options)
        assert MAGConfig(**config.model_dump(mode="json")) == config
    assert MAGConfig(bert_sizes=BERT_SIZES).bert_sizes == BertSizes(**BERT_SIZES)


def test_biases_and_norms_can_be_spared_the_decay(bert_folder: Path) -> None:
    spared = {"decay_norms_and_biases": False}
    for model in (build(bert_folder, **spared), MAG(MAGConfig(**spared), spec())):
        (group,) = parameter_groups(model)
        owned = {id(p) for p in group.parameters}
        assert group.weight_decay == 0 and group.learning_rate == 1
        for name, parameter in model.named_parameters():
            # The released rule, with the name that the gate's norm has here.
            expected = "bias" in name or "LayerNorm.weight" in name or name == "gate.norm.weight"
            assert (id(parameter) in owned) == expected, name
    assert not parameter_groups(build(bert_folder))
