"""A comparison: what it checks first, and what it repeats."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import fusionkit as fk
from fusionkit.errors import CheckpointError, ConfigError, MisuseError, UnknownNameError
from fusionkit.experiments import ablate
from fusionkit.registry import registry
from fusionkit.training.comparison import Comparison
from fusionkit.training.experiment_folder import locked

from comparisons import METHODS, SMALL, run, without_times


def test_rows_are_the_runs(finished: tuple[Path, Comparison]) -> None:
    folder, comparison = finished
    assert [row.label for row in comparison.rows] == METHODS
    assert (comparison.metric, comparison.higher_is_better) == ("accuracy", True)
    assert comparison.baseline in METHODS[1:]
    for row in comparison.rows:
        assert list(row.runs) == [0, 1]
        for seed, found in row.runs.items():
            assert found.folder == folder / row.label / f"seed-{seed}"
            alone = fk.evaluate(found.folder)
            assert alone["accuracy"].value == found.test["accuracy"].value
            assert found.data_sha256 == comparison.data_sha256
    model = fk.create("mmlatch", fk.load_data("synthetic", samples=60).spec, hidden_size=3)
    assert comparison.rows[0].parameters == sum(p.numel() for p in model.parameters())
    stored = json.loads((folder / "results.json").read_text())
    assert stored == json.loads(json.dumps(comparison.to_json()))
    assert (folder / "table.md").read_text().count("\n| unimodal:") == 2


def test_a_run_is_what_train_gives(finished: tuple[Path, Comparison], tmp_path: Path) -> None:
    alone = fk.train("unimodal:audio", seed=1, recipe="default", out=tmp_path / "run", **SMALL)
    there = finished[1].rows[2].runs[1]
    assert alone.test == there.test
    assert [r["train_loss"] for r in alone.history] == [r["train_loss"] for r in there.history]


def test_all_methods_are_trained_alike(finished: tuple[Path, Comparison]) -> None:
    trained = [
        json.loads((finished[0] / label / "seed-0" / "run.json").read_text())["train"]
        for label in METHODS
    ]
    assert trained[0] == trained[1] == trained[2]


def test_nothing_is_repeated(copy: Path, finished: tuple[Path, Comparison]) -> None:
    before = {f: f.stat().st_mtime_ns for f in copy.glob("*/seed-*/**/*")}
    comparison, lines = run(copy)
    assert lines == ["6 of 6 runs are finished already"]
    assert {f: f.stat().st_mtime_ns for f in copy.glob("*/seed-*/**/*")} == before
    assert without_times(comparison.to_json()) == without_times(finished[1].to_json())


def test_seeds_and_methods_may_join(copy: Path) -> None:
    comparison, lines = run(copy, [*METHODS, "mmlatch,mask=null"], seeds="0-2")
    assert lines[0] == "6 of 12 runs are finished already"
    assert len(lines) == 7
    assert [len(row.runs) for row in comparison.rows] == [3] * 4
    # The folder remembers methods that are not asked for again.
    fewer, _ = run(copy, ["unimodal:audio"])
    assert [row.label for row in fewer.rows] == ["unimodal:audio"]
    assert len(json.loads((copy / "comparison.json").read_text())["variants"]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": {"epochs": 3}}, "mmlatch.train.epochs is 2 there, 3 now"),
        ({"model": {"hidden_size": 4}}, "mmlatch.model.hidden_size is 3 there, 4 now"),
        ({"data_options": {"samples": 80}}, "data.config.samples is 60 there, 80 now"),
        ({"metrics": "mmsa", "data_options": {"samples": 60, "num_classes": 3}}, "num_classes"),
    ],
)
def test_another_comparison_is_refused(copy: Path, options: dict[str, Any], message: str) -> None:
    before = sorted(copy.rglob("*"))
    with pytest.raises(MisuseError, match=f"holds another comparison: .*{message}"):
        run(copy, **options)
    assert sorted(copy.rglob("*")) == before


def test_foreign_folders_are_refused(tmp_path: Path, finished: tuple[Path, Comparison]) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    with pytest.raises(MisuseError, match="holds something else"):
        run(tmp_path / "other")
    with pytest.raises(MisuseError, match="is a file"):
        run(tmp_path / "other" / "thesis.tex")
    with pytest.raises(MisuseError, match="single run"):
        run(finished[0] / "mmlatch" / "seed-0")


def test_damage_is_named(copy: Path) -> None:
    (copy / "comparison.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"comparison\.json"):
        run(copy)


def test_results_of_other_data_do_not_count(copy: Path) -> None:
    file = copy / "mmlatch" / "seed-0" / "results.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "data_sha256": "0" * 64}))
    with pytest.raises(CheckpointError, match="trained on other data"):
        run(copy)
    del content["history"]
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"seed-0/results\.json"):
        run(copy)


def test_remains_of_a_run_that_never_started(copy: Path, finished: tuple[Path, Comparison]) -> None:
    seed = copy / "mmlatch" / "seed-1"
    shutil.rmtree(seed)
    seed.mkdir()
    (seed / ".writing-run.json").write_text("{")
    comparison, lines = run(copy)
    assert len(lines) == 2
    assert without_times(comparison.to_json()) == without_times(finished[1].to_json())
    shutil.rmtree(seed)
    seed.mkdir()
    (seed / "notes.txt").write_text("")
    with pytest.raises(MisuseError, match="no run of this comparison"):
        run(copy)


def test_one_process_at_a_time(copy: Path) -> None:
    with locked(copy), pytest.raises(MisuseError, match="another process"):
        run(copy)
    run(copy)


@pytest.mark.parametrize(
    ("methods", "options", "kind", "message"),
    [
        (
            ["mmlatch", "unimodal:smell"],
            {},
            ConfigError,
            "'smell' is not in the data; they have text",
        ),
        (["mmlatch"], {"metric": "acuracy"}, UnknownNameError, "did you mean 'accuracy'"),
        (["mmlatch"], {"metrics": "sentiment"}, ConfigError, "no metrics for classification"),
        (["mmlatch"], {"recipe": "defalt"}, UnknownNameError, "did you mean 'default'"),
        (["mmlatch"], {"baseline": "unimodal:smell"}, ConfigError, "'smell'"),
        (["mmlatch", "mmlatch,train.monitor=mae"], {}, ConfigError, "train.monitor"),
        (["mmlatch"], {"seeds": [0, 0]}, ConfigError, "named twice"),
        (["mmlatch"], {"jobs": 0}, ConfigError, "at least 1"),
        (["mmlatch"], {"device": "tpu"}, ConfigError, "'tpu'"),
    ],
)
def test_misfits_are_found_before_anything_is_trained(
    tmp_path: Path, methods: list[str], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        run(tmp_path / "c", methods, **options)
    assert not (tmp_path / "c").exists()


def test_ablation_compares_with_the_whole(tmp_path: Path) -> None:
    found = ablate("mmlatch", seeds="0-1", out=tmp_path / "a", **SMALL)
    full, *parts = found.rows
    assert found.baseline == full.label == "mmlatch"
    assert full.difference is None
    assert [row.label for row in parts] == list(registry().get("method", "mmlatch").ablations)
    for row in parts:
        assert row.difference is not None
        expected = row.mean("accuracy") - full.mean("accuracy")
        assert row.difference.mean == pytest.approx(expected)
    described = json.loads((tmp_path / "a" / "mmlatch" / "seed-0" / "run.json").read_text())
    assert described["train"]["scheduler"] == "plateau", "the method's own training options"
