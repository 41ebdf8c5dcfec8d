"""Registration: every set once, and no torch before somebody asks."""

from __future__ import annotations

import subprocess
import sys

from fusionkit.evaluation import plugin
from fusionkit.evaluation.metric_set import MetricSet

NAMES = {
    "default",
    "sentiment",
    "mmlatch",
    "mmlatch-iemocap",
    "mmlatch-old",
    "mmlatch-old-zero",
    "mmsa",
    "mmsa-sims",
    "msaf",
    "mult",
    "mult-iemocap",
    "mult-zero",
}


def test_registers_every_set_once() -> None:
    found: list[MetricSet] = []
    plugin.fusionkit_register_metrics(register=found.append)
    assert sorted(s.name for s in found) == sorted(NAMES)
    assert all(s.summary and len(s.summary) <= 100 for s in found)


def test_import_does_not_import_torch() -> None:
    code = "import sys, fusionkit.evaluation.plugin; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
