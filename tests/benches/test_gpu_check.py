"""`benches/gpu_check.sh` on a machine without a GPU: it skips, or runs dry on the CPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

SCRIPT = Path(__file__).resolve().parents[2] / "benches" / "gpu_check.sh"


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable}
    environment.pop("OUT", None)
    command = ["bash", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = call(tmp_path / "results")
    assert done.returncode == 0, done.stderr
    assert "skipped, no NVIDIA GPU can be used here: torch" in done.stdout
    assert not (tmp_path / "results").exists()


def test_dry_run_writes_all_files(tmp_path: Path) -> None:
    done = call("--device", "cpu", "--dry", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    phases = [line.split(":")[0] for line in done.stdout.splitlines() if "exit code 0" in line]
    assert phases == ["== facts", "== tests", "== smoke", "== benchmarks"]
    names = {file.name for file in tmp_path.iterdir()}
    plots = {"ratios.png", "roofline.png"} if find_spec("matplotlib") else set()
    assert names == {"results.json", "table.md", "log.txt", "tests.xml"} | plots

    content = json.loads((tmp_path / "results.json").read_text())
    assert content["machine"]["device"] == "CPU"
    assert set(content["ceilings"]) == {"float32", "bfloat16", "float16"}
    assert [phase["code"] for phase in content["phases"]] == [0] * 4
    assert content["tests"]["counts"]["failed"] == 0 < content["tests"]["counts"]["passed"]
    assert content["wrong"] == content["crashes"] == []
    missing = {line.split(":")[0] for line in content["left_out"]}
    measured = {record["op"] for record in content["records"]}
    assert measured | missing >= {
        "cross_attention", "cross_attention_pairs", "gated_mask", "length_aware_lstm_group",
        "split_attention", "info_nce", "training_step",
    }  # fmt: skip
    for record in content["records"]:
        assert record["ours"] in record["seconds"], record["case"]
        assert record["best"] in record["seconds"], record["case"]
        assert set(record["errors"]) <= set(record["seconds"])

    text = (tmp_path / "table.md").read_text()
    assert "| case | variant | phase | ours | ratio | roofline |" in text
    assert "== facts: exit code 0" in (tmp_path / "log.txt").read_text()
    assert ElementTree.parse(tmp_path / "tests.xml").getroot().tag == "testsuites"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--fast"], "unknown option --fast"), (["--device", "cpu"], "is for --dry only")],
)
def test_misuse(arguments: list[str], message: str) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_the_sanitizer_looks_at_all_triton_kernels() -> None:
    pytest.importorskip("triton")
    from triton_builds import OPERATORS

    parts = re.search(r"for part in fusionkit (.+); do", SCRIPT.read_text())
    assert parts is not None
    for operator in OPERATORS:
        for build in import_module(f"fusionkit.ops.{operator}.triton_kernels").builds():
            assert any(part in build.kernel.fn.__name__ for part in parts[1].split()), build.name
