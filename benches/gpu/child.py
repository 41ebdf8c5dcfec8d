"""One suite in a process of its own; `run` starts it, and starts it again if it dies."""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from benches.gpu.clock import Schedule
from benches.gpu.journal import Journal
from benches.gpu.runner import Session, run_suite, warm_up
from benches.gpu.setting import Scope, Setting
from fusionkit.bench.case import Suite
from fusionkit.bench.ceilings import Ceilings

SUITES = (
    "cross_attention_pairs",
    "gated_mask",
    "training_step",
    "cross_attention",
    "lstm_group",
    "split_attention",
    "info_nce",
)
"""In the order of their importance: the modules are `benches.gpu.suite_NAME`."""

_SCHEDULES = {
    "full": Schedule(),
    "quick": Schedule(rounds=3),
    "dry": Schedule(rounds=2, block_seconds=0.0),
}


def load_suite(name: str, setting: Setting) -> Suite:
    """The cases of one name."""
    suite: Suite = importlib.import_module(f"benches.gpu.suite_{name}").suite(setting)
    return suite


def read_ceilings(file: Path) -> dict[str, Ceilings]:
    """What `benches.gpu.facts` measured; nothing where it could not."""
    if not file.exists():
        return {}
    return {n: Ceilings(**c) for n, c in json.loads(file.read_text())["ceilings"].items()}


def run(
    name: str,
    device: torch.device,
    scope: Scope,
    parts: Path,
    deadline: float,
    without: Mapping[str, str],
    *,
    warm: bool = False,
) -> None:
    """Measure a suite, or with ``warm`` only fill the compilers' caches on disk.

    Args:
        parts: folder of the journals. deadline: of `time.monotonic`, no case starts after it.
        without: contenders that ended the process before -> the case in which they did.
    """
    cache_bytes = 0
    if device.type == "cuda":
        cache_bytes = torch.cuda.get_device_properties(device).L2_cache_size
    session = Session(
        device,
        _SCHEDULES[scope],
        read_ceilings(parts / "facts.json"),
        cache_bytes,
        deadline,
        without,
        compilers=scope == "full",
    )
    suite = load_suite(name, Setting(device, scope))
    if warm:
        warm_up(suite, session, Journal(parts, f"{name}.warm"))
    else:
        run_suite(suite, session, Journal(parts, name))


def main() -> None:
    """The command line of `run`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", choices=SUITES, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--scope", choices=tuple(_SCHEDULES), required=True)
    parser.add_argument("--parts", type=Path, required=True, help="folder of journals")
    parser.add_argument("--seconds", type=float, required=True, help="no case starts after them")
    parser.add_argument("--without", default="{}", help="JSON: contender -> case that it died in")
    parser.add_argument("--warm", action="store_true")
    asked = parser.parse_args()
    deadline = time.monotonic() + asked.seconds
    run(
        asked.suite,
        torch.device(asked.device),
        asked.scope,
        asked.parts,
        deadline,
        json.loads(asked.without),
        warm=asked.warm,
    )


if __name__ == "__main__":
    main()
