"""MAG-BERT in the harness: trained, resumed, evaluated, converted; predictions for new samples."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import fusionkit as fk
from fusionkit.api import convert_checkpoint
from fusionkit_plugins.mag.bert import GatedBert
from fusionkit_plugins.mag.config import MAGConfig

SIZES = {"text": 1, "visual": 3, "acoustic": 4}
COUNT, VOCABULARY = 40, 30
OFFICIAL_GATE = {
    "gates.visual": "W_hv", "gates.acoustic": "W_ha", "projections.visual": "W_v",
    "projections.acoustic": "W_a", "norm": "LayerNorm",
}  # fmt: skip


def arrays(**changed: Any) -> dict[str, Any]:
    """Word-aligned sequences in the plain layout; the first id says the target."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 7, COUNT)
    total, first = lengths.sum(), np.cumsum(lengths) - lengths
    content: dict[str, Any] = {m: rng.standard_normal((total, n)) for m, n in SIZES.items()}
    content["text"] = rng.integers(1, VOCABULARY, (total, 1)).astype(np.float32)
    return {
        **content,
        **{f"{m}_len": lengths for m in SIZES},
        "y": (content["text"][first, 0] / 10 - 1.5).astype(np.float32),
        **changed,
    }


def options(folder: Path, file: Path, **model: Any) -> dict[str, Any]:
    np.savez(file, **arrays())
    return {
        "method": "mag", "data": f"npz:{file}", "preset": "bert", "device": "cpu",
        "model": {"bert": str(folder), **model},
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3},
        "data_options": {"target": "y"},
    }  # fmt: skip


def weights(run: Path) -> dict[str, Tensor]:
    pointer = json.loads((run / "checkpoints" / "checkpoints.json").read_text())
    return load_file(run / "checkpoints" / pointer["last"] / "model.safetensors")


@pytest.mark.parametrize("finetune", [True, False])
def test_a_run_is_trained_and_used(bert_folder: Path, tmp_path: Path, finetune: bool) -> None:
    result = fk.train(
        **options(bert_folder, tmp_path / "my.npz", bert_finetune=finetune), out=tmp_path / "run"
    )
    start, now = load_file(bert_folder / "model.safetensors"), weights(tmp_path / "run")
    moved = [n for n, value in start.items() if not torch.equal(now[f"bert.{n}"], value)]
    assert bool(moved) == finetune
    assert fk.evaluate(tmp_path / "run", device="cpu") == result.test
    predictions = fk.predict(tmp_path / "run", tmp_path / "run" / "examples.npz", device="cpu")
    with np.load(tmp_path / "run" / "predictions-test.npz") as stored:
        np.testing.assert_allclose(predictions.outputs, stored["outputs"][:3], atol=1e-5)


def test_a_cut_run_goes_on_to_the_same_weights(bert_folder: Path, tmp_path: Path) -> None:
    given = options(bert_folder, tmp_path / "my.npz")
    fk.train(**given, out=tmp_path / "whole")

    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train(**given, out=tmp_path / "cut", callbacks=[Stop()])
    fk.train(resume=tmp_path / "cut", device="cpu")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert set(whole) == set(resumed)
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_normalised_ids_are_refused(bert_folder: Path, tmp_path: Path) -> None:
    given = options(bert_folder, tmp_path / "my.npz")
    given["data_options"] = {"target": "y", "normalise": True}
    with pytest.raises(fk.DataError, match=r"set data\.normalise=false"):
        fk.train(**given, out=tmp_path / "run")


@pytest.mark.parametrize("method", ["mag", "mmmie"])
def test_all_ids_are_checked_before_training(
    method: str, bert_folder: Path, tmp_path: Path
) -> None:
    content = arrays(split=np.array(["train"] * 30 + ["valid"] * 5 + ["test"] * 5))
    content["text"][-1] = VOCABULARY
    given = options(bert_folder, tmp_path / "my.npz")
    np.savez(tmp_path / "my.npz", **content)
    given.update(method=method, preset=None if method == "mmmie" else "bert")
    given["data_options"] = {"target": "y", "split": "split", "normalise": False}
    with pytest.raises(fk.DataError, match=r"test data, sample '00039': bert: .* holds 30$"):
        fk.train(**given, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_preset_asks_for_a_folder(bert_folder: Path, tmp_path: Path) -> None:
    given = options(bert_folder, tmp_path / "my.npz")
    del given["model"]["bert"]
    with pytest.raises(fk.ConfigError, match="bert: 'FOLDER' is no folder; give that of a local"):
        fk.train(**given, out=tmp_path / "run")


def official_state(model: GatedBert) -> dict[str, Tensor]:
    """As the released code would save it, with the constant that its transformers save."""
    state = {"bert.embeddings.position_ids": torch.arange(12)[None]}
    for name, value in model.state_dict().items():
        if name.startswith("gate."):
            module, _, kind = name.removeprefix("gate.").rpartition(".")
            name = f"bert.MAG.{OFFICIAL_GATE[module]}.{kind}"
        state[name] = value
    return state


@pytest.fixture
def official(bert_folder: Path) -> tuple[GatedBert, dict[str, Tensor]]:
    torch.manual_seed(0)
    spec = fk.DataSpec(SIZES, "regression", 1, aligned=True)
    model = GatedBert(MAGConfig(bert=str(bert_folder)), spec).eval()
    return model, official_state(model)


def test_an_official_checkpoint_predicts_without_a_folder(
    official: tuple[GatedBert, dict[str, Tensor]], tmp_path: Path
) -> None:
    model, state = official
    torch.save(state, tmp_path / "official.pt")
    run = convert_checkpoint("mag", tmp_path / "official.pt", tmp_path / "run")
    sample = {m: arrays()[m][:5] for m in SIZES}
    np.savez(tmp_path / "sample.npz", **sample)
    predicted = fk.predict(run, tmp_path / "sample.npz", device="cpu").outputs
    features = {m: torch.tensor(x, dtype=torch.float32)[None] for m, x in sample.items()}
    batch = fk.MultimodalBatch(features, dict.fromkeys(SIZES, torch.tensor([5])))
    torch.testing.assert_close(predicted, model(batch).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cls.bias": torch.zeros(2)}, "'cls.bias' is no parameter of the official MAG-BERT"),
        ({"classifier.bias": None}, r"lacks 'classifier\.bias'"),
        ({"bert.MAG.W_v.weight": None}, r"lacks W_v\.weight"),
        (
            {"bert.embeddings.word_embeddings.weight": torch.zeros(30, 100)},
            "100 features has no heads of 64",
        ),
        ({"bert.pooler.dense.bias": None}, "another model or configuration"),
    ],
)
def test_what_is_no_official_checkpoint(
    official: tuple[GatedBert, dict[str, Tensor]],
    tmp_path: Path,
    change: dict[str, Tensor | None],
    message: str,
) -> None:
    state = {n: v for n, v in {**official[1], **change}.items() if v is not None}
    torch.save(state, tmp_path / "official.pt")
    with pytest.raises(fk.CheckpointError, match=message):
        convert_checkpoint("mag", tmp_path / "official.pt", tmp_path / "run")
    assert not (tmp_path / "run").exists()
