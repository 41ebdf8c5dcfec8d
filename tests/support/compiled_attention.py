"""Attention of two sequences in a compiled graph, whichever of our operators computes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fusionkit.ops import force_backend

from attention_devices import normal

Attend = Callable[[Tensor, Tensor, Tensor, Tensor], list[Tensor]]
"""Of two sequences (2, H, T, 4), lengths that both have, and a seed."""


def check_compiled_for_any_size(backend: str, device: str, attend: Attend, heads: int) -> None:
    """In one graph for any sizes: the third ones need nothing to be compiled."""
    functions: list[Any] = [torch.compile(attend, fullgraph=True, backend="aot_eager"), attend]
    for steps in (5, 9, 12):
        results = []
        for function in functions:
            leaves = [
                normal(2, heads, n, 4, seed=n, device=device).requires_grad_()
                for n in (steps, steps + 3)
            ]
            lengths, seed = (torch.tensor(n, device=device) for n in ([steps, 0], steps))
            recompiling = torch._dynamo.config.patch(error_on_recompile=steps == 12)
            with force_backend(backend), recompiling:
                outputs = function(*leaves, lengths, seed)
            gradients = torch.autograd.grad([x.sum() for x in outputs], leaves)
            results.append([*outputs, *gradients])
        for ours, plain in zip(*results, strict=True):
            torch.testing.assert_close(ours, plain)
