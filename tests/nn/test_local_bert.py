"""Models in a local folder: what is read, what is refused, and the ids that they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fusionkit import ConfigError, DataError
from fusionkit.nn import import_transformers, load_local_bert, local_bert, token_ids

LENGTHS = torch.tensor([3, 1, 0])


def model() -> Any:
    transformers = pytest.importorskip("transformers", reason="package transformers is missing")
    torch.manual_seed(0)
    return transformers.BertModel(
        transformers.BertConfig(
            vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1,
            intermediate_size=3, max_position_embeddings=5,
        )
    )  # fmt: skip


def features() -> Tensor:
    """Ids 1 to 9 in column 0."""
    x = torch.full((3, 3, 2), 0.5)
    x[..., 0] = torch.arange(1.0, 10.0).reshape(3, 3)
    return x


def test_reading_shows_no_bar(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model().save_pretrained(tmp_path)
    capfd.readouterr()
    load_local_bert(str(tmp_path))
    assert capfd.readouterr().err == ""


def test_weights_come_from_safetensors_in_float32(tmp_path: Path) -> None:
    saved = model().half()
    for name, options in (("whole", {}), ("parts", {"max_shard_size": 100})):
        saved.save_pretrained(tmp_path / name, **options)
        loaded = load_local_bert(str(tmp_path / name))
        assert {p.dtype for p in loaded.parameters()} == {torch.float32}
        state = loaded.state_dict()
        assert all(torch.equal(state[n], value.float()) for n, value in saved.state_dict().items())
    assert not (tmp_path / "parts" / "model.safetensors").exists()


def test_pickles_are_not_read(tmp_path: Path) -> None:
    saved = model()
    saved.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(saved.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(
        ConfigError, match=r"no model can be read from .*: it has no model\.safetensors"
    ):
        load_local_bert(str(tmp_path))


def test_code_in_the_folder_is_not_run(tmp_path: Path) -> None:
    import_transformers()
    auto = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    trace = tmp_path / "trace"
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "own.py").write_text(f"open({str(trace)!r}, 'w')\n")
    with pytest.raises(ConfigError, match="no model can be read"):
        load_local_bert(str(tmp_path))
    assert not trace.exists()


def test_a_damaged_or_foreign_folder_is_one_error(tmp_path: Path) -> None:
    model().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="no model can be read"):
        load_local_bert(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="no model can be read"):
        load_local_bert(str(tmp_path))
    with pytest.raises(ConfigError, match=r"is no folder; give that of a local model"):
        load_local_bert("bert-base-uncased")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local_bert, "find_spec", lambda name: None)
    for call in (import_transformers, lambda: load_local_bert(str(tmp_path))):
        with pytest.raises(ConfigError, match=r"'transformers' is missing; pip install"):
            call()


def test_ids_are_column_0_and_0_on_padding() -> None:
    x = features()
    x[1, 1:, 0], x[2, :, 0] = float("nan"), -1e9
    ids = token_ids(x, LENGTHS, vocabulary=5)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("value", [0.5, -1.0, 5.0, float("nan"), float("inf")])
def test_what_is_no_id_is_an_error(value: float) -> None:
    x = features()
    x[1, 0, 0] = value
    with pytest.raises(DataError, match=r"whole numbers from 0 to 4, and holds") as caught:
        token_ids(x, LENGTHS, vocabulary=5)
    assert f"{value:g}" in str(caught.value)
    assert ("set data.normalise=false" in str(caught.value)) == (not value.is_integer())


def test_too_many_tokens_are_an_error() -> None:
    assert token_ids(features(), LENGTHS, vocabulary=9, max_tokens=3).shape == (3, 3)
    with pytest.raises(DataError, match="3 tokens, the model takes at most 2"):
        token_ids(features(), LENGTHS, vocabulary=9, max_tokens=2)
