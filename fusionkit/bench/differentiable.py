"""From a function of tensors to the two phases that are timed: forward, forward and backward."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fusionkit.bench.case import FORWARD, Task


def fixed_upstream(
    shape: Sequence[int], dtype: torch.dtype, device: torch.device | None = None
) -> Tensor:
    """The gradient that arrives at an output of this shape: on a device the same every time."""
    generator = torch.Generator(device or "cpu").manual_seed(1)
    return torch.randn(tuple(shape), generator=generator, device=device).to(dtype)


def differentiable(
    function: Callable[[], Sequence[Tensor]], leaves: Mapping[str, Tensor], phase: str
) -> Task:
    """``function()`` without gradients in the phase ``fwd``, else with all gradients of ``leaves``.

    The results are called ``output K`` and ``gradient of NAME``.
    """
    if phase == FORWARD:

        def forward() -> Sequence[Tensor]:
            with torch.no_grad():
                return function()

        return Task(forward, lambda: named(forward()))

    wanted = list(leaves.values())
    upstream: list[Tensor] = []

    def both() -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        outputs = function()
        if not upstream:
            upstream.extend(fixed_upstream(x.shape, x.dtype, x.device) for x in outputs)
        return outputs, torch.autograd.grad(outputs, wanted, upstream)

    def results() -> dict[str, Tensor]:
        outputs, gradients = both()
        return named(outputs) | {f"gradient of {n}": g for n, g in zip(leaves, gradients)}

    return Task(both, results)


def named(outputs: Sequence[Tensor]) -> dict[str, Tensor]:
    """Outputs by name."""
    return {f"output {index}": x.detach() for index, x in enumerate(outputs)}
