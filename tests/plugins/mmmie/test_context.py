"""MMMIE and what is known of a sample as a whole: speaker and utterance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fusionkit as fk
from fusionkit.testing import make_batch
from fusionkit.training.checkpoint import load_checkpoint
from fusionkit.training.explain import explain_run
from fusionkit_plugins.mmmie.config import MMMIEConfig
from fusionkit_plugins.mmmie.identity import ContextEmbedding
from fusionkit_plugins.mmmie.model import MMMIE

SPEC = fk.DataSpec({"audio": 3, "text": 4}, "classification", 2, context={"speaker": 5, "turn": 3})
SMALL: dict[str, Any] = {"hidden_size": 8, "num_heads": 2, "estimator_size": 8, "fusion_layers": 1}
TRAIN: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-2, "scheduler": "none", "batch_size": 16}
CONTEXT: dict[str, Any] = {"context": ["speaker", "turn"]}
SPEAKERS, COUNT = 6, 240


def model(spec: fk.DataSpec = SPEC, **options: Any) -> MMMIE:
    torch.manual_seed(0)
    return MMMIE(MMMIEConfig(**{**SMALL, **options}), spec)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise whose class is that of the speaker; one speaker is in the test split alone."""
    generator = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for name, size in (("audio", 3), ("text", 4)):
        lengths = generator.integers(1, 5, COUNT)
        arrays[name] = generator.standard_normal((lengths.sum(), size)).astype(np.float32)
        arrays[f"{name}_len"] = lengths
    speaker = generator.permutation(COUNT) % SPEAKERS
    split = np.where(np.arange(COUNT) < 160, "train", "valid")
    split[200:] = "test"
    names = np.array(["ann", "bob", "cy", "di", "eve", "flo"])[speaker]
    names[-2:] = "new"
    label = np.isin(speaker, (0, 2, 3)).astype(int)
    turn = generator.integers(0, 12, COUNT)
    path = tmp_path_factory.mktemp("data") / "dialogues.npz"
    np.savez(path, **arrays, speaker=names, turn=turn, label=label, split=split)
    return path


@pytest.fixture(scope="module")
def run(file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    fk.train("mmmie", f"npz:{file}", model=SMALL, train=TRAIN, data_options=CONTEXT, out=out)
    return out


def test_the_vectors_of_all_contexts_are_added() -> None:
    embedding = ContextEmbedding({"speaker": 3, "type": 2}, 4).eval()
    first, second = embedding.parameters()
    found = embedding({"speaker": torch.tensor([2, 0]), "type": torch.tensor([1, 0])})
    assert found.shape == (2, 1, 4)
    torch.testing.assert_close(found[0, 0], first[2] + second[1])
    torch.testing.assert_close(found[1, 0], first[0] + second[0])


def test_some_contexts_are_unknown_in_training_alone() -> None:
    torch.manual_seed(0)
    embedding = ContextEmbedding({"speaker": 2, "turn": 2}, 1, dropout=0.25)
    for value, vectors in zip((1.0, 10.0), embedding.parameters()):
        torch.nn.init.zeros_(vectors)
        vectors.data[0] = value
    known = dict.fromkeys(("speaker", "turn"), torch.ones(20000, dtype=torch.int64))
    values = embedding(known).flatten()
    for share, value in ((9, 0.0), (3, 1.0), (3, 10.0), (1, 11.0)):
        # The standard error is at most 0.0035.
        assert abs((values == value).double().mean().item() - share / 16) < 0.015, value
    values.sum().backward()
    assert all(v.grad is not None and bool(v.grad.all()) for v in embedding.parameters())
    assert not embedding.eval()(known).any()
    assert known["turn"].all()


def test_context_changes_the_outputs_of_its_sample_alone() -> None:
    one, x = model().eval(), make_batch(SPEC, [3, 2, 4])
    other = x.context["speaker"].clone()
    other[1] = (other[1] + 1) % 5
    changed = one(replace(x, context={**x.context, "speaker": other})) - one(x)
    assert changed[1].abs().min() > 0
    assert not changed[[0, 2]].any()


def test_it_can_be_switched_off_and_is_not_there_without_data() -> None:
    plain = replace(SPEC, context={})
    expected = model(plain).eval()
    x = make_batch(SPEC, [3, 2, 4])
    for one in (model(identity_context=False), model(plain, identity_context=True)):
        assert one.context is None
        assert list(one.state_dict()) == list(expected.state_dict())
        assert torch.equal(one.eval()(x), expected(replace(x, context={})))
    with_context = {n for n in model().state_dict() if n.startswith("context.")}
    assert with_context == {"context.tables.0.weight", "context.tables.1.weight"}
    with pytest.raises(KeyError, match="speaker"):
        model()(replace(x, context={}))


def test_only_the_context_without_other_identities() -> None:
    one = model(identity=None).eval()
    assert one.identity is None and one.context is not None
    assert one(make_batch(SPEC, [3, 2])).isfinite().all()


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_wrong_dropout(share: float) -> None:
    with pytest.raises(ValueError, match="identity_context_dropout"):
        MMMIEConfig(identity_context_dropout=share)


def test_a_target_that_only_the_speaker_tells_is_learnt(file: Path, tmp_path: Path) -> None:
    reached = {}
    for known in (True, False):
        result = fk.train(
            "mmmie", f"npz:{file}", data_options={"context": ["speaker"]},
            model={**SMALL, "identity_context": known}, train={**TRAIN, "epochs": 12},
            out=tmp_path / str(known),
        )  # fmt: skip
        reached[known] = result.validation["accuracy"].value
    assert reached[True] > 0.95
    # 40 samples of two classes: the standard error of a guess is 0.08.
    assert reached[False] < 0.8


def test_the_vector_of_the_unknown_is_trained(file: Path, tmp_path: Path) -> None:
    vectors = {}
    for dropout in (0.0, 0.5):
        fk.train(
            "mmmie", f"npz:{file}", data_options={"context": ["speaker"]},
            model={**SMALL, "identity_context_dropout": dropout},
            train={**TRAIN, "optimizer": "sgd", "weight_decay": 0.0, "epochs": 1},
            out=tmp_path / str(dropout),
        )  # fmt: skip
        vectors[dropout] = _weights(tmp_path / str(dropout))["context.tables.0.weight"][0]
    spec = fk.load_data(f"npz:{file}", context=["speaker"]).spec
    torch.manual_seed(0)
    drawn = model(spec, identity_context_dropout=0.0).context
    assert drawn is not None
    assert torch.equal(vectors[0.0], next(drawn.parameters())[0])
    assert not torch.equal(vectors[0.5], vectors[0.0])


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints")[0]


def test_a_file_of_samples_gives_the_outputs_of_the_run(run: Path, file: Path) -> None:
    """Known and unknown speakers alike, whether numbers are stored as such or as text."""
    with np.load(run / "predictions-test.npz") as stored:
        expected, ids = stored["outputs"], stored["id"].tolist()
    assert np.isfinite(expected).all()
    with pytest.warns(UserWarning, match="context 'speaker' of 2 of 40 samples is unknown"):
        found = fk.predict(run, _own_samples(run.parent / "new.npz", file))
    assert [f"{int(name):05d}" for name in found.ids] == ids
    np.testing.assert_allclose(found.outputs.numpy(), expected, atol=1e-5)
    examples = fk.predict(run, run / "examples.npz")
    assert examples.ids == ids[:3]
    np.testing.assert_allclose(examples.outputs.numpy(), expected[:3], atol=1e-4)
    with pytest.warns(UserWarning, match="context 'turn' of 40 of 40"):
        unknown = fk.predict(run, _own_samples(run.parent / "bare.npz", file, "speaker", "turn"))
    assert unknown.outputs.isfinite().all()
    assert not np.allclose(unknown.outputs.numpy(), expected, atol=1e-3)


def _own_samples(path: Path, file: Path, *without: str) -> Path:
    """The test samples of ``file`` as they stand in it."""
    with np.load(file) as content:
        arrays = {name: content[name] for name in content.files}
    own: dict[str, Any] = {"id": np.arange(200, COUNT)}
    for name in ("audio", "text"):
        own[name] = arrays[name][arrays[f"{name}_len"][:200].sum() :]
        own[f"{name}_len"] = arrays[f"{name}_len"][200:]
    for name in {"speaker", "turn"} - set(without):
        own[name] = arrays[name][200:]
    np.savez(path, **own)
    return path


def test_evaluation_again_is_what_the_run_said(run: Path) -> None:
    result = fk.evaluate(run)
    with np.load(run / "predictions-test.npz") as stored:
        right = (stored["outputs"].argmax(1) == stored["targets"]).mean()
    assert result["accuracy"].value == pytest.approx(right)


def test_resuming_gives_the_same_bits(run: Path, file: Path, tmp_path: Path) -> None:
    class Stop:
        def on_epoch_end(self, state: Any) -> None:
            if state.progress.epoch == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fk.train("mmmie", f"npz:{file}", model=SMALL, train=TRAIN, data_options=CONTEXT,
                 out=tmp_path / "cut", callbacks=[Stop()])  # fmt: skip
    resumed = fk.train(resume=tmp_path / "cut")
    assert resumed.epochs == 2
    whole, again = _weights(run), _weights(tmp_path / "cut")
    assert whole.keys() == again.keys()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions(file: Path, tmp_path: Path, precision: str) -> None:
    result = fk.train(
        "mmmie", f"npz:{file}", data_options=CONTEXT, model=SMALL,
        train={**TRAIN, "epochs": 1, "precision": precision}, out=tmp_path / "run",
    )  # fmt: skip
    assert np.isfinite(result.history[0]["train_loss"])


def test_methods_without_use_for_it_can_be_trained_and_explained(
    file: Path, tmp_path: Path
) -> None:
    results = {}
    for name, options in (("with", CONTEXT), ("without", {})):
        results[name] = fk.train(
            "mmlatch", f"npz:{file}", model={"hidden_size": 4, "mask": "boom"},
            train={"epochs": 1}, data_options=options, out=tmp_path / name,
        )  # fmt: skip
    first, other = (r.history[0]["train_loss"] for r in results.values())
    assert first == other
    of_data = explain_run(tmp_path / "with", "00200")
    of_file = explain_run(tmp_path / "with", "00200", samples=tmp_path / "with" / "examples.npz")
    assert of_data.prediction == of_file.prediction
