"""What a schedule changes in an optimizer, where a CUDA graph can read it anew at every replay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class DeviceRates:
    """The rates of an optimizer's groups as tensors on the device, for as long as a step takes.

    In between, the groups have their numbers: schedules and checkpoints know no graph.

    Args:
        betas: the schedule changes Adam's first beta, too.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, device: torch.device, *, betas: bool = False
    ) -> None:
        self.groups = optimizer.param_groups
        self.rates = [torch.zeros((), device=device) for _ in self.groups]
        self.betas = [torch.zeros((), device=device) for _ in self.groups if betas]

    def load(self) -> None:
        """Copy the numbers, without waiting for the device."""
        for rate, group in zip(self.rates, self.groups):
            rate.fill_(group["lr"])
        for beta, group in zip(self.betas, self.groups):
            beta.fill_(group["betas"][0])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The groups have the tensors."""
        kept = {"lr", "betas"}
        numbers = [{k: v for k, v in group.items() if k in kept} for group in self.groups]
        for group, rate in zip(self.groups, self.rates):
            group["lr"] = rate
        for group, beta in zip(self.groups, self.betas):
            group["betas"] = (beta, *group["betas"][1:])
        try:
            yield
        finally:
            for group, number in zip(self.groups, numbers):
                group.update(number)
