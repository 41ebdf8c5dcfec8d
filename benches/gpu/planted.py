"""Writes one number behind a tensor, in a kernel that is called as ours are: memcheck must see it.

So a check that finds nothing else did look at our kernels, filter included.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl


@triton.jit
def segment_planted(out, offset):  # type: ignore[no-untyped-def]
    tl.store(out + offset, 1.0)


def main() -> None:
    """The exit code is 0, as the tool gives one of its own for programs that succeed only."""
    out = torch.zeros(1024, device="cuda")
    try:
        segment_planted[(1,)](out, 1024)
        torch.cuda.synchronize()
    # What memcheck found has ended the context.
    except RuntimeError as error:
        print(f"raised: {error}")


if __name__ == "__main__":
    main()
