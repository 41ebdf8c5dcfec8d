"""Dropout layer on the seeded operator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.ops import dropout
from fusionkit.ops.extension import AVAILABLE


class Dropout(nn.Module):
    """`torch.nn.Dropout` that draws one seed from torch's generator and makes the mask from it.

    Where the compiled operator cannot run (no extension, another device or dtype), torch's own
    dropout does, because the operator's reference is slow.

    Args:
        p: probability in [0, 1] that an element is set to 0 in training.
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def extra_repr(self) -> str:
        """For ``print(module)``."""
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Any shape (..., C) to the same shape."""
        compiled = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() > 0
        if self.p >= 1.0 or not (compiled and AVAILABLE):
            return F.dropout(x, self.p, self.training)
        p, seed = dropout_seed(self, self.p, x.device)
        return dropout(x, p, seed)


def dropout_seed(
    module: nn.Module, p: float, device: torch.device, at_eval: bool = False
) -> tuple[float, Tensor | None]:
    """Dropout probability of this call and, if it is > 0, a seed on the device of the input.

    The seed comes from torch's generator of that device: nothing waits for an accelerator, its
    kernels read the seed where it is, and a captured CUDA graph draws a new one at every replay.
    """
    if p == 0.0 or not (module.training or at_eval):
        return 0.0, None
    # Whether MPS draws numbers of 62 bits was not tried: the CPU's generator serves it.
    return p, torch.randint(2**62, (), device="cpu" if device.type == "mps" else device)
