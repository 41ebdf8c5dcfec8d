"""``compare`` and ``ablate`` as a user meets them: tables, JSON, exit codes, messages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fusionkit.cli.main import cli
from fusionkit.registry import registry
from fusionkit.registry.manager import Registered

SMALL = [
    "--data", "synthetic", "--set", "data.samples=60", "--set", "hidden_size=3",
    "--set", "train.epochs=1", "--device", "cpu",
]  # fmt: skip


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison") / "c"


def test_compare(folder: Path) -> None:
    arguments = ["compare", "mmlatch", "unimodal:audio", *SMALL, "--seeds", "0-1"]
    arguments += ["--out", str(folder)]
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    for text in ("difference to baseline", "baseline: unimodal:audio, the best of 1 single",
                 "[4/4] unimodal:audio, seed 1: validation",
                 "test accuracy", "selection: epoch with the lowest validation loss", "SHA-256",
                 "recipe: default", "95 %"):  # fmt: skip
        assert text in result.output

    again = call(*arguments, "--json")
    content = json.loads(again.stdout)
    assert [row["method"] for row in content["rows"]] == ["mmlatch", "unimodal:audio"]
    assert set(content["rows"][0]["runs"]) == {"0", "1"}
    markdown = call(*arguments, "--markdown")
    assert markdown.stdout == (folder / "table.md").read_text()
    for seed in content["rows"][0]["runs"].values():
        assert call("evaluate", seed["folder"], "--json").exit_code == 0


def test_the_same_command_finds_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "unimodal:text", *SMALL, "--seeds", "3"]
    assert call(*arguments).exit_code == 0
    again = call(*arguments, "--seeds", "3,4")
    assert "1 of 2 runs are finished already" in again.output
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_ablate(tmp_path: Path) -> None:
    result = call("ablate", "mmlatch", *SMALL, "--seeds", "0", "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert "baseline: mmlatch" in result.output
    assert "one seed: no interval" in result.output
    assert "the training options of the method" in result.output


def test_failures_are_shown_and_the_exit_code_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(model: Any, batch: Any, loss: Any) -> Any:
        raise ZeroDivisionError("a bug")

    broken = replace(registry().get("method", "mmlatch"), name="broken", training_step=step)
    monkeypatch.setitem(registry()._table("method"), "broken", [Registered(broken, "test 0")])
    result = call(
        "compare", "broken", "unimodal:text", *SMALL, "--seeds", "0", "--out", tmp_path / "c"
    )
    assert result.exit_code == 1
    assert "failed: broken, seed 0: ZeroDivisionError: a bug" in " ".join(result.stdout.split())
    assert "unimodal:text" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "Missing argument"),
        (["compare", "mmlach"], "did you mean 'mmlatch'"),
        (["compare", "unimodal:smell"], "they have text, audio, vision"),
        (["compare", "mmlatch", "--seeds", "one"], "write 0-4 or 0,1,7"),
        (["compare", "mmlatch", "--metric", "accurcy"], "did you mean 'accuracy'"),
        (["compare", "mmlatch", "--metrics", "mmsaa"], "did you mean 'mmsa'"),
        (["compare", "mmlatch", "--recipe", "wach"], "did you mean 'watch'"),
        (["compare", "mmlatch", "--jobs", "0"], "--jobs"),
        (["compare", "mmlatch", "--json", "--markdown"], "exclude each other"),
        (["ablate", "unimodal"], "these methods do: "),
        (["ablate", "mmlatch:text"], "takes no modality behind a colon"),
        (["train", "mmlatch", "--recipe", "wach"], "did you mean 'watch'"),
        (["train", "unimodal:smell", "--out", "never"], "they have text, audio, vision"),
        (["train", "--resume", "somewhere", "--recipe", "watch"], "leave out"),
    ],
)
def test_misuse(arguments: list[str], message: str) -> None:
    options = SMALL if "--resume" not in arguments else []
    result = call(*arguments, *options)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not Path("never").exists()


def test_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusionkit.training import loop

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", interrupt)
    result = call("compare", "mmlatch", *SMALL, "--seeds", "0", "--out", tmp_path / "c")
    assert result.exit_code == 1
    assert "interrupted; the same command continues" in result.output
    monkeypatch.undo()
    result = call("compare", "mmlatch", *SMALL, "--seeds", "0", "--out", tmp_path / "c")
    assert result.exit_code == 0, result.output


def test_train_takes_a_modality_and_a_recipe(tmp_path: Path) -> None:
    result = call("train", "unimodal:audio", *SMALL, "--recipe", "default", "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output
    described = json.loads((tmp_path / "r" / "run.json").read_text())
    assert described["model"]["modality"] == "audio"
