"""The table of a comparison: numbers, directions, and what is said below."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fusionkit.errors import CheckpointError
from fusionkit.evaluation.protocol import Score
from fusionkit.report.comparison_table import (
    comparison_markdown,
    comparison_table,
    footnotes,
    write_comparison,
)
from fusionkit.training.comparison import Comparison, Row, choose_baseline, difference_to
from fusionkit.training.result import RunResult


def result(seed: int, validation: float, test: float, seconds: float = 1.0) -> RunResult:
    def scores(value: float) -> dict[str, Score]:
        return {"mae": Score(value, math.nan, math.nan), "corr": Score(math.nan, 0.0, 0.0)}

    return RunResult(
        folder=Path("c") / f"seed-{seed}", method="m", data="d", seed=seed, metrics="default",
        best_epoch=1, epochs=2, selection="rule", interval="", validation=scores(validation),
        test=scores(test), history=[{"seconds": seconds}, {"seconds": 5 * seconds}],
        data_sha256="0" * 64, versions={"fusionkit": "1"},
    )  # fmt: skip


def row(label: str, *pairs: tuple[float, float], **options: Any) -> Row:
    runs = {seed: result(seed, *pair) for seed, pair in enumerate(pairs)}
    fields = {"parameters": 1234, "single": label.startswith("uni"), "batches": 10, "failures": {}}
    return Row(label=label, runs=runs, **{**fields, **options})


# By test the audio is the better single modality, by validation the text is.
ROWS = [
    row("fusion", (0.3, 0.5), (0.4, 0.4), (0.3, 0.3)),
    row("uni:text", (0.4, 0.9), (0.5, 0.7), (0.4, 0.8)),
    row("uni:audio", (0.6, 0.6), (0.6, 0.6), (0.6, 0.6)),
]


def comparison(rows: list[Row] = ROWS, metric: str = "mae") -> Comparison:
    baseline, rule = choose_baseline(rows, None, metric, False)
    partner = next((r for r in rows if r.label == baseline), None)
    rows = [replace(r, difference=difference_to(r, partner, metric)) for r in rows]
    return Comparison(
        title="a comparison", rows=rows, seeds=tuple(range(len(rows[0].runs))), metrics="default",
        metric=metric, higher_is_better=False, baseline=baseline, baseline_rule=rule,
        recipe="default", selection=["rule"], data="d", data_sha256="0" * 64, split_rule="people",
        versions=["fusionkit 1"], notes=["a note"],
    )  # fmt: skip


def test_validation_chooses_the_baseline() -> None:
    assert choose_baseline(ROWS, None, "mae", False)[0] == "uni:text"
    assert choose_baseline(ROWS, None, "mae", True)[0] == "uni:audio"
    assert choose_baseline(ROWS, "fusion", "mae", False)[0] == "fusion"
    label, reason = choose_baseline(ROWS[:1], None, "mae", False)
    assert label is None
    assert "unimodal:MODALITY" in reason
    assert choose_baseline(ROWS, None, "corr", False)[0] is None


def test_markdown() -> None:
    lines, middle = comparison_markdown(comparison()).splitlines(), "| 1,234 | 300.0 | "
    assert lines[2:7] == [
        "| method | parameters | ms a step | test mae | difference to baseline | p |",
        "|---|---:|---:|---:|---:|---:|",
        f"| fusion {middle}0.4000 [0.1516, 0.6484] | -0.4000 [-0.6484, -0.1516] | 0.020 |",
        f"| uni:text {middle}0.8000 [0.5516, 1.0484] | baseline |  |",
        f"| uni:audio {middle}0.6000 [0.6000, 0.6000] | -0.2000 [-0.4484, +0.0484] | 0.074 |",
    ]


def test_console_shows_the_same_numbers() -> None:
    output = io.StringIO()
    Console(file=output, width=200).print(comparison_table(comparison()))
    for text in ("0.4000 [0.1516, 0.6484]", "-0.4000 [-0.6484, -0.1516]", "0.020", "baseline"):
        assert text in output.getvalue()
    for line in footnotes(comparison()):
        assert line in output.getvalue()


def test_footnotes_say_what_the_numbers_depend_on() -> None:
    text = "\n".join(footnotes(comparison()))
    for part in (
        "lower is better", "3 seeds (0, 1, 2)", "best of 2 single-modality methods", "validation",
        "selection: rule", "SHA-256 000000000000", "fusionkit 1", "not adjusted for the 2 tests",
        "recipe: default", "note: a note", "split: people",
    ):  # fmt: skip
        assert part in text, part


def test_one_seed_has_no_interval() -> None:
    rows = [row("fusion", (0.3, 0.5)), row("uni:text", (0.4, 0.9))]
    one = comparison(rows)
    markdown = comparison_markdown(one)
    assert "| 0.5000 | -0.4000 | - |" in markdown
    assert "one seed: no interval and no test" in markdown
    assert "95 %" not in markdown
    assert one.to_json()["rows"][0]["difference"]["p"] is None


def test_failed_and_undefined() -> None:
    rows = [
        row("fusion", (0.3, 0.5), failures={1: "a bug"}),
        row("uni:text", (0.4, 0.9), (0.4, 0.8)),
    ]
    found = comparison(rows)
    assert "| failed | - | - |" in comparison_markdown(found)
    assert "failed: fusion, seed 1: a bug" in comparison_markdown(found)
    assert found.to_json()["rows"][0]["mean"] is None
    assert "| - |" in comparison_markdown(comparison(ROWS, metric="corr"))


def test_json_has_every_seed_and_no_nan() -> None:
    content = json.loads(json.dumps(comparison().to_json(), allow_nan=False))
    assert [content["rows"][0]["runs"][str(k)]["test"]["mae"] for k in range(3)] == [0.5, 0.4, 0.3]
    assert content["rows"][0]["runs"]["0"]["test"]["corr"] is None
    assert content["rows"][1]["validation_mean"] == pytest.approx(1.3 / 3)


def test_a_bar_is_no_column() -> None:
    assert "a\\|b" in comparison_markdown(comparison([row("a|b", (0.1, 0.1))]))


def test_files_are_written_or_the_way_out_is_named(tmp_path: Path) -> None:
    write_comparison(tmp_path, comparison())
    assert json.loads((tmp_path / "results.json").read_text())["metric"] == "mae"
    assert (tmp_path / "table.md").read_text() == comparison_markdown(comparison())
    with pytest.raises(CheckpointError, match="same command makes the table again"):
        write_comparison(tmp_path / "missing", comparison())
