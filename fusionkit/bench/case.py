"""A benchmark as data: what is computed, by whom, at what cost, and which result is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from fusionkit.errors import FusionKitError

FORWARD, BOTH = "fwd", "fwd+bwd"
FULL, PARTIAL = "full", "70 %"

Role = Literal["ours", "torch", "other"]


class NotAvailableError(FusionKitError):
    """A contender cannot run a case here; the message says why."""


@dataclass(frozen=True)
class Inputs:
    """What all contenders of a case are given.

    Args:
        tensors: name -> floating-point tensor; gradients are taken with respect to all of them.
        lengths: name -> (B,) int64 valid steps; empty where everything is valid.
        dropout_p: in [0, 1). seed: of our dropout masks.
    """

    tensors: Mapping[str, Tensor]
    lengths: Mapping[str, Tensor] = field(default_factory=dict)
    dropout_p: float = 0.0
    seed: int = 1

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> Inputs:
        """The same numbers in another precision, and on another device if one is given."""
        return replace(
            self,
            tensors={name: x.to(device, dtype) for name, x in self.tensors.items()},
            lengths={name: n.to(device) for name, n in self.lengths.items()},
        )

    def without_dropout(self) -> Inputs:
        """The same with nothing dropped."""
        return replace(self, dropout_p=0.0)

    def leaves(self) -> dict[str, Tensor]:
        """Copies of the tensors that ask for gradients."""
        return {name: x.detach().clone().requires_grad_() for name, x in self.tensors.items()}


@dataclass(frozen=True)
class Task:
    """What a contender made of a case in one phase.

    Args:
        run: the work that is timed.
        results: the same work once, as name -> tensor, for the check.
    """

    run: Callable[[], object]
    results: Callable[[], dict[str, Tensor]]


@dataclass(frozen=True)
class Contender:
    """One way to compute a case.

    Args:
        name: as in the tables.
        prepare: (inputs, phase) -> `Task`; raises `NotAvailableError` with the reason.
        role: ``ours`` is measured against the fastest ``torch``; ``other`` is shown only. The first
            of several ``ours`` is what dispatch chooses.
        own_dropout: draws its own dropout mask, so its check runs without dropout.
        not_comparable: why it computes something else; then it is neither checked nor the best.
        slow_start: takes seconds to compile; ``--quick`` leaves it out.
    """

    name: str
    prepare: Callable[[Inputs, str], Task]
    role: Role = "torch"
    own_dropout: bool = False
    not_comparable: str = ""
    slow_start: bool = False


@dataclass(frozen=True)
class Work:
    """The least that has to be done: floating-point operations, and bytes read and written."""

    flops: float
    bytes: float

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)


@dataclass(frozen=True)
class Bound:
    """The allowed error of a result against float64.

    Args:
        plain_factor: times the error of plain PyTorch in float32.
        relative: plus this share of the largest value.
    """

    plain_factor: float
    relative: float


OURS = Bound(2.0, 8 * torch.finfo(torch.float32).eps)
# The others are only asked to compute the same thing; their accuracy is not ours to judge.
OTHERS = Bound(2.0, 1e-4)


@dataclass(frozen=True, eq=False)
class Case:
    """One row of the tables.

    Args:
        name: shape, unique in its suite together with ``variant``.
        group: the class over which ratios are averaged and for which goals are set.
        variant: ``full``, ``70 %`` (lengths of 40 to 100 %) or ``dropout P``.
        inputs: makes the float32 inputs, the same numbers at every call.
        reference: (inputs, phase) -> results by plain PyTorch, in the precision of the inputs.
        contenders: at least one is ours.
        work: phase -> what has to be done, for the roofline; None where nobody counted.
        bound: allowed error of ours. bound_others: of the others; None for `OTHERS`.
        quick: part of ``--quick``.
    """

    name: str
    group: str
    variant: str
    inputs: Callable[[], Inputs]
    reference: Callable[[Inputs, str], dict[str, Tensor]]
    contenders: tuple[Contender, ...]
    work: Mapping[str, Work | None]
    bound: Bound = OURS
    bound_others: Bound | None = None
    quick: bool = False

    @property
    def phases(self) -> tuple[str, ...]:
        """What is timed, such as ``fwd`` and ``fwd+bwd``."""
        return tuple(self.work)

    @property
    def title(self) -> str:
        """Name and variant."""
        return f"{self.name}, {self.variant}"

    @property
    def ours(self) -> Contender:
        """The contender whose speed is in question."""
        return next(c for c in self.contenders if c.role == "ours")


@dataclass(frozen=True)
class Suite:
    """All cases of one ``--op``.

    Args:
        name: as on the command line. cases: in the order of the table.
        left_out: what is missing -> why.
    """

    name: str
    cases: tuple[Case, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
