"""Operators, their tests and the GPU check need none of the packages that only training needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCKED = ("pydantic", "omegaconf", "lightning_fabric")

PRELUDE = f"""
import importlib.util, sys

sys.modules.update(dict.fromkeys({BLOCKED}))

def load(file):
    spec = importlib.util.spec_from_file_location("loaded", file)
    sys.modules["loaded"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["loaded"])
"""


def output(code: str) -> str:
    paths = [str(ROOT / "tests" / "support"), os.environ.get("PYTHONPATH", ""), str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    command = [sys.executable, "-c", PRELUDE + code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_operators_modules_and_their_tests_are_imported() -> None:
    files = [ROOT / "tests" / "conftest.py", *sorted((ROOT / "tests" / "ops").glob("*.py"))]
    loads = "\n".join(f"load({str(file)!r})" for file in files)
    assert output(f"import fusionkit.ops, fusionkit.nn\n{loads}\nprint('all')") == "all\n"


def test_the_check_leaves_out_what_it_cannot_build() -> None:
    code = """
import torch
from benches.gpu import facts, report, run, smoke
from benches.gpu.child import SUITES, load_suite
from benches.gpu.setting import Setting
found = {name: load_suite(name, Setting(torch.device("cpu"), "dry")) for name in SUITES}
print(found["training_step"].left_out["training_step"])
print(all(suite.cases or suite.left_out for suite in found.values()))
"""
    first, second = output(code).splitlines()
    assert first.startswith("needs pydantic, omegaconf, not installed here")
    assert second == "True"


def test_the_check_says_what_it_leaves_out_and_why() -> None:
    code = """
sys.argv[1:] = ["training", "models"]
from benches.gpu.needs import main
try:
    main()
except SystemExit as end:
    print(end.code)
"""
    first, second, end = output(code).splitlines()
    assert first.startswith("left out for want of pydantic, omegaconf, lightning_fabric: the")
    assert second.startswith("left out for want of pydantic, omegaconf: the training steps")
    assert end == "True"
