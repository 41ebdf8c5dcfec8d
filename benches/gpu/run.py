"""Runs the suites, each in a process of its own, within a time.

A kernel that breaks the device breaks its process for good, and one that hangs never returns: the
process is ended, the contender that ran is left out, and the suite goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benches.gpu.child import SUITES, run
from benches.gpu.facts import backend_lines
from benches.gpu.journal import Journal

SHARES = {
    "cross_attention_pairs": 0.14,
    "gated_mask": 0.12,
    "training_step": 0.24,
    "cross_attention": 0.30,
    "lstm_group": 0.10,
    "split_attention": 0.05,
    "info_nce": 0.05,
}
"""Of the whole time; what a suite leaves goes to those after it."""

STALL_SECONDS = 75.0
_GRACE = 20.0
_MOST_CRASHES = 4


Start = Callable[[str, float, dict[str, str]], "subprocess.Popen[bytes]"]
"""Starts a suite: its name, the seconds it has, and the contenders to leave out."""


def start_with(options: list[str]) -> Start:
    """Processes of `benches.gpu.child`."""

    def start(suite: str, seconds: float, without: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benches.gpu.child", "--suite", suite, *options]
        command += ["--seconds", str(seconds), "--without", json.dumps(without)]
        return subprocess.Popen(command)

    return start


def supervise(suite: str, seconds: float, start: Start, journal: Journal) -> str:
    """Run a suite to its end; returns one line on how that went.

    Args:
        seconds: no case starts after them, and 20 s later the process is ended.
    """
    started = time.monotonic()
    without: dict[str, str] = {}
    while True:
        left = seconds - (time.monotonic() - started)
        reason = _watch(start(suite, left, dict(without)), left + _GRACE, journal)
        took = f"{time.monotonic() - started:.0f} s"
        if not reason:
            return f"{suite}: {took}"
        contender, _, case = journal.running().partition("\t")
        journal.add("crash", [contender, case, reason])
        print(f"{suite}: {reason} at {contender}, {case}", flush=True)
        without[contender] = case
        late = time.monotonic() - started > seconds
        if late or not contender or len(without) > _MOST_CRASHES:
            return f"{suite}: {took}, {reason}"


def _watch(process: subprocess.Popen[bytes], seconds: float, journal: Journal) -> str:
    """Wait for the process, and end it if it takes too long; empty if all was well."""
    started, begun = time.monotonic(), time.time()
    while True:
        try:
            code = process.wait(0.25)
            return f"ended with code {code}" if code else ""
        except subprocess.TimeoutExpired:
            stalled = time.time() - journal.still_since(begun) > STALL_SECONDS
            late = time.monotonic() - started > seconds
            if stalled or late:
                process.kill()
                process.wait()
                return "its time was over" if late else f"nothing moved for {STALL_SECONDS:.0f} s"


def warm(start: Start, seconds: float) -> None:
    """All suites at once, to compile what they will need."""
    processes = [start(suite, seconds, {}) for suite in SUITES]
    end = time.monotonic() + seconds + _GRACE
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()


def main() -> None:
    """All suites, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--scope", choices=("full", "quick", "dry"), default="full")
    parser.add_argument("--parts", type=Path, required=True, help="folder for what is found")
    parser.add_argument("--seconds", type=float, default=280.0)
    parser.add_argument("--warm", action="store_true", help="only fill the compilers' caches")
    parser.add_argument("suites", nargs="*", default=SUITES)
    asked = parser.parse_args()
    options = ["--device", asked.device, "--scope", asked.scope, "--parts", str(asked.parts)]
    if asked.warm:
        return warm(start_with([*options, "--warm"]), asked.seconds)
    print("\n".join(backend_lines()), flush=True)
    (asked.parts / "backends.json").write_text(json.dumps(backend_lines()))
    end, share_left = time.monotonic() + asked.seconds, sum(SHARES[s] for s in asked.suites)
    for suite in asked.suites:
        left = end - time.monotonic()
        # What earlier suites did not use is shared by those that follow.
        seconds = max(0.0, left * SHARES[suite] / max(share_left, SHARES[suite]))
        share_left -= SHARES[suite]
        if asked.scope == "dry":
            # Nothing here can break a device, and starting processes would take most of the time.
            deadline = time.monotonic() + seconds
            run(suite, torch.device(asked.device), "dry", asked.parts, deadline, {})
            continue
        journal = Journal(asked.parts, suite)
        print(supervise(suite, seconds, start_with(options), journal), flush=True)


if __name__ == "__main__":
    main()
