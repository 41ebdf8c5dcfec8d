"""The command line as a user meets it: outputs, exit codes, suggestions."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

import fusionkit as fk
from fusionkit.cli.main import cli

SMALL = [
    "--data", "synthetic", "--set", "data.samples=90", "--set", "hidden_size=4",
    "--set", "train.epochs=1",
]  # fmt: skip


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = call("train", "mmlatch", *SMALL, "--out", folder)
    assert result.exit_code == 0, result.output
    return folder


def test_list_shows_everything_with_its_distribution() -> None:
    output = call("list").output
    for name in ("mmlatch", "unimodal", "watch", "synthetic", "npz", "default", "gated_mask"):
        assert name in output
    assert "fusionkit-torch" in output


def test_info_of_a_method_shows_paper_citation_and_options() -> None:
    output = call("info", "mmlatch").output
    assert "arXiv 2201.09828" in output
    assert "@inproceedings{paraskevopoulos2022mmlatch" in output
    for field in ("hidden_size", "int", "100", "mask_dropout_at_eval", "released code"):
        assert field in output


@pytest.mark.parametrize("name", ["watch", "npz", "sentiment", "train", "unimodal"])
def test_info_of_anything(name: str) -> None:
    result = call("info", name)
    assert result.exit_code == 0
    assert name in result.output.lower()


def test_doctor() -> None:
    result = call("doctor")
    assert result.exit_code == 0, result.output
    for word in ("torch", "threads", "compiled extension", "CUDA kernels", "no problem found"):
        assert word in result.output


def test_train_says_everything_and_how_to_predict(tmp_path: Path) -> None:
    result = call("train", "unimodal", *SMALL, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    for text in ("epoch 1/1", "accuracy", "selection: epoch with the lowest validation loss",
                 "SHA-256", "seed 0", "predict with: fusionkit predict"):  # fmt: skip
        assert text in result.output
    line = next(x for x in result.output.splitlines() if x.startswith("predict with: fusionkit "))
    again = call(*line.removeprefix("predict with: fusionkit ").split())
    assert again.exit_code == 0, again.output
    assert len(again.output.splitlines()) == 4


def test_evaluate(run: Path) -> None:
    result = call("evaluate", run, "--split", "validation")
    assert result.exit_code == 0
    assert "accuracy" in result.output
    as_json = call("evaluate", run, "--json")
    assert '"accuracy"' in as_json.output


def test_predict_on_own_samples(run: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = {"text": 20, "audio": 12, "vision": 8}
    one: dict[str, Any] = {
        m: rng.normal(size=(7 + d, d)).astype(np.float32) for m, d in sizes.items()
    }
    np.savez(tmp_path / "one.npz", **one)
    result = call("predict", run, tmp_path / "one.npz")
    assert result.exit_code == 0, result.output
    rows = list(csv.reader(io.StringIO(result.output)))
    assert rows[0][:2] == ["id", "prediction"]
    assert rows[1][0] == "one"
    assert abs(sum(map(float, rows[1][2:])) - 1) < 1e-4

    target = tmp_path / "out.csv"
    assert call("predict", run, tmp_path / "one.npz", "--out", target).exit_code == 0
    assert len(target.read_text().splitlines()) == 2
    refused = call("predict", run, tmp_path / "one.npz", "--out", target)
    assert refused.exit_code == 2
    assert "never overwritten" in refused.output

    one["audio"][3, 1] = np.nan
    np.savez(tmp_path / "nan.npz", **one)
    refused = call("predict", run, tmp_path / "nan.npz")
    assert refused.exit_code == 1
    for part in ("nan.npz", "audio", "--nonfinite zero"):
        assert part in refused.output
    repaired = call("predict", run, tmp_path / "nan.npz", "--nonfinite", "zero")
    assert repaired.exit_code == 0
    assert "note: " in repaired.output

    del one["audio"]
    np.savez(tmp_path / "missing.npz", **one)
    refused = call("predict", run, tmp_path / "missing.npz")
    assert refused.exit_code == 1
    assert "'audio' is missing" in refused.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "mmlach"], 2, "did you mean 'mmlatch'"),
        (["train", "mmlatch", "--data", "wacht"], 2, "did you mean 'watch'"),
        (["train", "mmlatch", "--set", "hiden_size=3"], 2, "did you mean 'hidden_size'"),
        (["train", "mmlatch", "--metrics", "mmsaa"], 2, "did you mean 'mmsa'"),
        (["train", "mmlatch", "--preset", "papr"], 2, "did you mean 'paper'"),
        (["train"], 2, "name a METHOD"),
        (["train", "mmlatch", "--resume", "somewhere"], 2, "leave out 'method'"),
        (["train", "--cuda-graph", "--resume", "somewhere"], 2, "leave out 'cuda_graph'"),
        (
            ["train", "late_fusion", *SMALL, "--cuda-graph", "--device", "cpu"],
            2,
            "--cuda-graph needs a CUDA device, and the run is on cpu",
        ),
        (["train", "mmlatch", "--data", "watch:x"], 2, "takes no path"),
        (["train", "mmlatch", "--data", "npz:missing.npz"], 1, "missing.npz"),
        (["train", "mmlatch", "--seed", "-1"], 2, "--seed"),
        (["train", "mmlatch", "--sed", "1"], 2, "--seed"),
        (["trian", "mmlatch"], 2, "did you mean 'train'"),
        (["info", "mmltch"], 2, "did you mean 'mmlatch'"),
        (["evaluate", "nowhere"], 1, "not a FusionKit run"),
        (["predict", "nowhere", "x.npz"], 1, "not a FusionKit run"),
    ],
)
def test_misuse_and_failure(arguments: list[str], code: int, message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_module_and_script_are_the_same() -> None:
    one = subprocess.check_output([sys.executable, "-m", "fusionkit", "--version"], text=True)
    assert one.strip() == f"fusionkit, version {fk.__version__}"


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; from fusionkit.cli.main import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    result = call("completion", shell)
    assert result.exit_code == 0
    assert "_FUSIONKIT_COMPLETE" in result.output


def test_shell_completes_registered_names() -> None:
    from fusionkit.cli.names import RegisteredName
    from fusionkit.cli.train import command

    kind = RegisteredName("method")
    assert [c.value for c in kind.shell_complete(None, command.params[0], "mml")] == ["mmlatch"]  # type: ignore[arg-type]


def test_convert_checkpoint(tmp_path: Path) -> None:
    from fusionkit_plugins.mmlatch.checkpoint import official_to_ours

    spec = fk.DataSpec({"text": 6, "audio": 4, "visual": 3}, "regression", 1, aligned=True)
    model = fk.create("mmlatch", spec, hidden_size=5, lengths="padded").eval()
    official = {name: model.state_dict()[official_to_ours(name)] for name in _official_names()}
    torch.save({"state_dict": official}, tmp_path / "official.pt")
    result = call("convert-checkpoint", "mmlatch", tmp_path / "official.pt", tmp_path / "run")
    assert result.exit_code == 0, result.output

    rng = np.random.default_rng(0)
    sample: dict[str, Any] = {m: rng.normal(size=(4, d)) for m, d in spec.modalities.items()}
    np.savez(tmp_path / "sample.npz", **sample)
    predicted = fk.predict(tmp_path / "run", tmp_path / "sample.npz").outputs
    features = {m: torch.tensor(x, dtype=torch.float32)[None] for m, x in sample.items()}
    lengths = dict.fromkeys(features, torch.tensor([4]))
    with torch.no_grad():
        assert torch.allclose(predicted, model(fk.MultimodalBatch(features, lengths)), atol=1e-5)

    refused = call("convert-checkpoint", "mmlatch", tmp_path / "official.pt", tmp_path / "run")
    assert refused.exit_code == 2
    torch.save({"something": torch.zeros(1)}, tmp_path / "foreign.pt")
    refused = call("convert-checkpoint", "mmlatch", tmp_path / "foreign.pt", tmp_path / "other")
    assert refused.exit_code == 1
    assert "'something' is no parameter of the official MMLatch" in refused.output
    (tmp_path / "junk.pt").write_bytes(b"junk")
    refused = call("convert-checkpoint", "mmlatch", tmp_path / "junk.pt", tmp_path / "other")
    assert refused.exit_code == 1
    assert "junk.pt" in refused.output
    assert "Traceback" not in refused.output


def _official_names() -> list[str]:
    lstm = [f"{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    both = [*lstm, *(f"{name}_reverse" for name in lstm)]
    attention = [f"attention.{k}.weight" for k in "kqv"]
    names = ["classifier.weight", "classifier.bias"]
    for m in ("text", "audio", "visual"):
        names += [f"encoder.{m}.encoder.{x}" for x in (*(f"rnn.rnn.{w}" for w in both), *attention)]
    names += [f"encoder.fuser.rnn.{x}" for x in (*(f"rnn.rnn.{w}" for w in both), *attention)]
    names += [f"encoder.fuser.att_fuser.{p}.{k}{s}.weight"
              for p in ("ta", "va", "tv") for k in "kqv" for s in "xy"]  # fmt: skip
    names += [f"encoder.fuser.att_fuser.tav.{k}.weight" for k in "kqv"]
    names += [f"encoder.fm.f{f}.mask{m}.rnn.{w}" for f in (1, 2, 3) for m in (1, 2) for w in lstm]
    return names


def test_brackets_in_a_path_are_no_markup(tmp_path: Path) -> None:
    result = call("train", "unimodal", *SMALL, "--out", tmp_path / "r[bold]x[/y]")
    assert result.exit_code == 0, result.output
    assert "r[bold]x[/y]" in result.output


def test_types_are_shown_whole() -> None:
    assert "tuple[str, ...]" in call("info", "npz").output.replace("\n", "")


def test_prediction_into_a_missing_folder_is_refused_first(run: Path, tmp_path: Path) -> None:
    result = call("predict", run, run / "examples.npz", "--out", tmp_path / "no" / "x.csv")
    assert result.exit_code == 2
    assert "does not exist" in result.output
