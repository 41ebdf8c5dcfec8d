"""What the console shows: lines, a bar where it is a terminal, numbers with intervals."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import fusionkit as fk
from fusionkit.evaluation.protocol import Score
from fusionkit.report.progress import ConsoleProgress
from fusionkit.report.results_table import format_score, print_result

SMALL: dict[str, Any] = {
    "data": "synthetic",
    "model": {"hidden_size": 3},
    "train": {"epochs": 2},
    "data_options": {"samples": 60},
}


def train(tmp_path: Path, terminal: bool) -> tuple[Any, str]:
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100)
    with ConsoleProgress(console) as progress:
        result = fk.train("unimodal", out=tmp_path / "run", callbacks=[progress], **SMALL)
    print_result(console, result)
    return result, output.getvalue()


def test_plain_lines_where_it_is_no_terminal(tmp_path: Path) -> None:
    result, output = train(tmp_path, terminal=False)
    assert "\x1b" not in output
    lines = output.splitlines()
    assert sum(line.startswith("epoch ") for line in lines) == 2
    assert any("Bayes" in line or "optimum" in line or "best" in line for line in lines)
    assert format_score(result.test["accuracy"]) in output
    assert "95 %" in output


def test_bar_on_a_terminal(tmp_path: Path) -> None:
    _, output = train(tmp_path, terminal=True)
    assert "training" in output
    assert "\x1b[?25h" in output, "the cursor is not shown again"


def test_bar_goes_away_on_an_error() -> None:
    output = io.StringIO()
    progress = ConsoleProgress(Console(file=output, force_terminal=True))

    class State:
        total_epochs, batches_per_epoch = 1, 1

        class progress:  # noqa: N801  stands for an attribute
            epoch = 0

    with pytest.raises(RuntimeError), progress:
        progress.on_fit_start(State())  # type: ignore[arg-type]
        raise RuntimeError
    assert output.getvalue().endswith("\x1b[?25h") or "\x1b[?25h" in output.getvalue()


def test_undefined_values_are_a_dash() -> None:
    assert format_score(Score(math.nan, math.nan, math.nan)) == "-"
    assert format_score(None) == "-"
    assert format_score(Score(0.5, math.nan, math.nan)) == "0.5000"
