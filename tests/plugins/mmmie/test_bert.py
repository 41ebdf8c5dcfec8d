"""A local Hugging Face model as the encoder of a modality of token ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fusionkit import ConfigError, DataError, DataSpec, MultimodalBatch
from fusionkit.nn import local_bert
from fusionkit_plugins.mmmie.bert import LocalBert
from fusionkit_plugins.mmmie.config import MMMIEConfig
from fusionkit_plugins.mmmie.model import MMMIE
from fusionkit_plugins.mmmie.objective import auxiliary, training_step

SPEC = DataSpec({"language": 2, "audio": 3}, "regression", 1)
VOCABULARY, MOST = 30, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    transformers = pytest.importorskip("transformers", reason="package transformers is missing")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=MOST,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bert")
    transformers.BertModel(config).save_pretrained(path)
    return str(path)


def model(folder: str, **options: Any) -> MMMIE:
    torch.manual_seed(0)
    small: dict[str, Any] = {"hidden_size": 8, "num_heads": 2, "estimator_size": 6}
    return MMMIE(MMMIEConfig(bert=folder, **{**small, **options}), SPEC)


def batch() -> MultimodalBatch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCABULARY, (3, 6), generator=generator).float()
    features = {
        "language": torch.stack([ids, torch.full_like(ids, 0.5)], dim=-1),
        "audio": torch.randn(3, 5, 3, generator=generator),
    }
    lengths = {"language": torch.tensor([6, 2, 4]), "audio": torch.tensor([5, 4, 1])}
    return MultimodalBatch(features, lengths, torch.randn(3, generator=generator))


def with_ids(x: MultimodalBatch, row: int, step: int, value: float) -> MultimodalBatch:
    features = {m: f.clone() for m, f in x.features.items()}
    features["language"][row, step, 0] = value
    return MultimodalBatch(features, x.lengths, x.targets)


def test_the_vectors_are_those_of_the_model(folder: str) -> None:
    transformers = pytest.importorskip("transformers", reason="package transformers is missing")
    own = transformers.BertModel.from_pretrained(folder).eval()
    x = batch()
    one = LocalBert(folder).train()
    got = one(x.features["language"], x.lengths["language"])
    for row, length in enumerate(x.lengths["language"].tolist()):
        ids = x.features["language"][row : row + 1, :length, 0].long()
        expected = own(input_ids=ids).last_hidden_state
        torch.testing.assert_close(got[row : row + 1, :length], expected)


def test_only_ids_within_the_length_count(folder: str) -> None:
    mmmie = model(folder).eval()
    x = batch()
    before = mmmie(x)
    assert torch.allclose(mmmie(with_ids(x, 1, 3, -1e3)), before)
    assert not torch.allclose(mmmie(with_ids(x, 0, 3, 7.0)), before)
    alone = MultimodalBatch(
        {"language": x.features["language"][1:2, :2], "audio": x.features["audio"][1:2, :4]},
        {m: n[1:2] for m, n in x.lengths.items()},
    )
    torch.testing.assert_close(mmmie(alone), before[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.5, -1.0, float(VOCABULARY)])
def test_what_is_no_id_is_an_error(folder: str, value: float) -> None:
    with pytest.raises(DataError, match=r"whole numbers from 0 to 29, and holds"):
        model(folder)(with_ids(batch(), 0, 3, value))


def test_too_many_tokens(folder: str) -> None:
    ids = torch.ones(1, MOST + 1, 1)
    with pytest.raises(DataError, match="13 tokens, the model takes at most 12"):
        LocalBert(folder)(ids, torch.tensor([MOST + 1]))


@pytest.mark.parametrize("finetune", [False, True])
def test_only_finetuning_moves_the_model(folder: str, finetune: bool) -> None:
    mmmie, x = model(folder, bert_finetune=finetune).train(), batch()
    own = {n: p for n, p in mmmie.named_parameters() if ".bert." in n}
    assert own
    (objective,) = auxiliary(mmmie)
    owned = {id(p) for p in objective.parameters(mmmie)}
    # As the training loop does it: all parameters that no auxiliary objective has.
    main = [p for p in mmmie.parameters() if id(p) not in owned]

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.l1_loss(outputs[:, 0], targets)

    training_step(mmmie, x, loss).backward(inputs=main)
    moved = [p.grad is not None and bool(p.grad.any()) for p in own.values()]
    assert any(moved) == finetune
    (reader,) = (m for m in mmmie.modules() if isinstance(m, LocalBert))
    assert reader.model.training == finetune
    assert not reader.eval().model.training


def test_the_input_is_the_word_vectors(folder: str) -> None:
    mmmie, x = model(folder), batch()
    vector = mmmie.inputs(x)["language"]
    assert vector.shape == (3, 16) and not vector.requires_grad
    (reader,) = (m for m in mmmie.modules() if isinstance(m, LocalBert))
    words = reader.model.get_input_embeddings().weight
    ids = x.features["language"][1, :2, 0].long()
    torch.testing.assert_close(vector[1, :8], words[ids].mean(dim=0))


def test_the_modality_can_be_named(folder: str) -> None:
    spec = DataSpec({"audio": 3, "words": 1}, "regression", 1)
    config = MMMIEConfig(hidden_size=8, num_heads=2, bert=folder, bert_modality="words")
    encoders = MMMIE(config, spec).encoders
    assert encoders["audio"].bert is None and isinstance(encoders["words"].bert, LocalBert)
    with pytest.raises(ConfigError, match="bert_modality: no modality 'text'"):
        MMMIE(config.model_copy(update={"bert_modality": "text"}), spec)


def test_the_state_dictionary_holds_the_model(folder: str) -> None:
    trained = model(folder)
    with torch.no_grad():
        for p in trained.parameters():
            p.add_(0.1)
    copy = model(folder)
    copy.load_state_dict(trained.state_dict())
    assert torch.equal(copy.eval()(batch()), trained.eval()(batch()))


def test_a_folder_without_model(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="package transformers is missing")
    with pytest.raises(ConfigError, match="is no folder"):
        LocalBert(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no model can be read"):
        LocalBert(str(tmp_path))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_bert, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"'transformers' is missing; pip install"):
        LocalBert(str(tmp_path))
