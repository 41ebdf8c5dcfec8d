"""Calls every operator on every GPU backend once, forward and backward, at small shapes.

Made for compute-sanitizer, which slows everything down.
"""

from __future__ import annotations

import sys

import torch

from fusionkit.ops import force_backend

from every_op import ON_DEVICE, calls_of, results, unavailable


def main() -> None:
    """Prints one line a call; the exit code is 1 if one of them raised."""
    if not torch.cuda.is_available():
        print("skipped: no CUDA device is there")
        return
    failed = False
    for call, backend in calls_of(*ON_DEVICE):
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
