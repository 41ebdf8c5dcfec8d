"""`fusionkit bench` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fusionkit.bench.allocator import ALLOCATOR
from fusionkit.bench.case import Bound, Suite
from fusionkit.cli.main import cli


@pytest.fixture(autouse=True)
def _allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command runs inside this process, which must not start anew."""
    for name, value in ALLOCATOR.items():
        monkeypatch.setenv(name, value)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)])


def test_quick_run_writes_and_compares(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    first = call("--op", "gated_mask", "--threads", "1", "--quick", "--json", file)
    assert first.exit_code == 0, first.output
    for text in ("32x50x35 G2", "eager", "ratio", "roofline", "35 and 74 features", "mean >= 2",
                 "too short", "MALLOC_TOP_PAD_=67108864", "left out by --quick"):  # fmt: skip
        assert text in first.output
    content = json.loads(file.read_text())
    assert content["settings"]["ops"] == ["gated_mask"]
    assert {r["phase"] for r in content["records"]} == {"fwd", "fwd+bwd"}
    assert all(r["seconds"]["fusionkit"]["seconds"] > 0 for r in content["records"])
    assert content["classes"]

    content["machine"]["cpu_model"] = "another"
    for record in content["records"]:
        record["seconds"]["fusionkit"]["seconds"] *= 1e-3
    file.write_text(json.dumps(content))
    second = call("--op", "gated_mask", "--threads", "1", "--quick", "--compare", file)
    assert second.exit_code == 0, second.output
    assert second.output.count("SLOWER") == len(content["records"])
    assert "not the same machine: cpu_model: another there" in second.output


def test_a_failing_check_prints_no_time_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("fusionkit.bench.correctness.OTHERS", Bound(0.0, 0.0))
    file = tmp_path / "refused.json"
    result = call("--op", "gated_mask", "--threads", "1", "--quick", "--json", file)
    assert result.exit_code == 1
    assert "error: gated_mask: no times: 32x50x35 G2" in result.output
    assert "roofline" not in result.output
    content = json.loads(file.read_text())
    assert content["records"] == []
    assert "off by" in content["refused"]["gated_mask"]


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Suite("gated_mask", (), {"gated_mask": "it is not there"})
    monkeypatch.setattr("fusionkit.bench.cases.gated_mask.suite", lambda: empty)
    result = call("--op", "gated_mask", "--threads", "1", "--quick")
    assert result.exit_code == 0
    assert "gated_mask is left out: it is not there" in result.output


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--op", "gated_maks"], 2, "did you mean 'gated_mask'"),
        (["--threads", "1,x"], 2, "'x' is not a number from 1 to"),
        (["--threads", "0"], 2, "'0' is not a number from 1 to"),
        (["--threads", "9999"], 2, "'9999' is not a number from 1 to"),
        (["--compare", "missing.json"], 1, "missing.json"),
        (["--json", "no/such/folder.json"], 2, "does not exist"),
    ],
)
def test_misuse(arguments: list[str], code: int, message: str) -> None:
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_files_are_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "there.json"
    file.write_text("mine")
    result = call("--json", file)
    assert result.exit_code == 2
    assert "never overwritten" in result.output
    assert file.read_text() == "mine"
