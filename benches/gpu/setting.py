"""Where the suites of the GPU check run, how much of them, and what precisions may cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar

import torch

from fusionkit.bench.case import Bound, Work

Scope = Literal["full", "quick", "dry"]
T = TypeVar("T")

SHORT_NAMES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


@dataclass(frozen=True)
class Setting:
    """Args: device: of all inputs. scope: ``dry`` has tiny shapes, to try the code on a CPU."""

    device: torch.device
    scope: Scope = "full"

    def pick(self, full: T, quick: T, dry: T) -> T:
        """What belongs to the scope."""
        return {"full": full, "quick": quick, "dry": dry}[self.scope]


def our_bound(dtype: torch.dtype) -> Bound:
    """Twice the error of plain PyTorch in the same precision, and a few roundings of the result."""
    spacings = 8 if dtype == torch.float32 else 2
    return Bound(2.0, spacings * torch.finfo(dtype).eps)


def bound_of_others(dtype: torch.dtype) -> Bound:
    """Theirs: in float32 they may use TF32 (10 bits), as cuDNN does unless it is told not to."""
    return Bound(2.0, 5e-3 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps)


def in_dtype(work: Work, dtype: torch.dtype) -> Work:
    """Work counted for float32 with the bytes of another precision."""
    return Work(work.flops, work.bytes * dtype.itemsize / 4)
