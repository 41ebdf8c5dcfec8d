"""Calls every operator on every GPU backend once, forward and backward, at small shapes.

Made for compute-sanitizer, which slows everything down and says what it found when all is over: so
no call starts late.
"""

from __future__ import annotations

import argparse
import sys
import time

import torch

from fusionkit.ops import force_backend

from every_op import ON_DEVICE, calls_of, results, unavailable


def main() -> None:
    """Prints one line a call; the exit code is 1 if one of them raised."""
    if not torch.cuda.is_available():
        print("skipped: no CUDA device is there")
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="no call starts after them")
    deadline = time.monotonic() + parser.parse_args().seconds
    failed = False
    calls = calls_of(*ON_DEVICE)
    for i, (call, backend) in enumerate(calls):
        if time.monotonic() > deadline:
            print(f"skipped: {len(calls) - i} of {len(calls)} calls, no time was left", flush=True)
            break
        line = f"{call.op}, {call.name}, {backend}"
        if unavailable(call.op, backend):
            print(f"{line}: skipped: {unavailable(call.op, backend)}", flush=True)
            continue
        leaves = call.leaves("cuda")
        try:
            with force_backend(backend):
                results(leaves, call.prepared(leaves))
            torch.cuda.synchronize()
            print(f"{line}: done", flush=True)
        # The others are to be checked, too.
        except Exception as error:
            failed = True
            print(f"{line}: FAILED: {type(error).__name__}: {error}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
