"""No speed without a right result: every contender against float64 before anything is timed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fusionkit.bench.case import OTHERS, Bound, Case, Contender, Task
from fusionkit.errors import FusionKitError

Results = Mapping[str, Tensor]


class CheckFailedError(FusionKitError):
    """A contender's result is wrong, so its speed means nothing."""


@dataclass(frozen=True)
class Check:
    """How far one result is off.

    Args:
        result: its name. error: largest difference from float64. allowed: what it may be.
    """

    result: str
    error: float
    allowed: float

    @property
    def share(self) -> float:
        """Error over what is allowed, at most 1 if all is well; infinite for NaN."""
        if math.isnan(self.error) or self.error > 0.0 == self.allowed:
            return math.inf
        return self.error / self.allowed if self.error else 0.0


def compare_results(got: Results, truth: Results, plain: Results, bound: Bound) -> Check:
    """The worst of ``got`` beside float64 ``truth`` and plain float32 results, all by name.

    Raises:
        CheckFailedError: the names or shapes differ.
    """
    if got.keys() != truth.keys():
        raise CheckFailedError(f"gives {', '.join(got)} instead of {', '.join(truth)}")
    checks = []
    for name, right in truth.items():
        if got[name].shape != right.shape:
            raise CheckFailedError(
                f"{name} is {tuple(got[name].shape)} instead of {tuple(right.shape)}"
            )
        error = _largest(got[name].double() - right)
        allowed = bound.plain_factor * _largest(plain[name].double() - right)
        checks.append(Check(name, error, allowed + bound.relative * _largest(right)))
    return max(checks, key=lambda check: check.share)


class Truth:
    """The right results of a case, computed once for each phase, with and without dropout."""

    def __init__(self, case: Case) -> None:
        self.case, self.inputs = case, case.inputs()
        self._known: dict[tuple[str, bool], tuple[Results, Results]] = {}

    def results(self, phase: str, dropout: bool) -> tuple[Results, Results]:
        """In float64, and by plain PyTorch in float32."""
        key = (phase, dropout)
        if key not in self._known:
            inputs = self.inputs if dropout else self.inputs.without_dropout()
            self._known[key] = (
                self.case.reference(inputs.to(torch.float64), phase),
                self.case.reference(inputs, phase),
            )
        return self._known[key]

    def check(self, contender: Contender, task: Task, phase: str) -> Check | None:
        """Check what ``task`` gives; None where it computes something else on purpose.

        Raises:
            CheckFailedError: names the case, the contender and the result that is off.
        """
        if contender.not_comparable:
            return None
        same_mask = self.inputs.dropout_p == 0.0 or not contender.own_dropout
        if not same_mask:
            task = contender.prepare(self.inputs.without_dropout(), phase)
        where = f"{self.case.title}, {phase}: {contender.name}"
        bound = self.case.bound_others or OTHERS
        if contender.role == "ours":
            bound = self.case.bound
        try:
            check = compare_results(task.results(), *self.results(phase, same_mask), bound)
        except CheckFailedError as error:
            raise CheckFailedError(f"{where}: {error}") from None
        if check.share > 1.0:
            raise CheckFailedError(
                f"{where}: {check.result} is off by {check.error:.2e} from float64, "
                f"{check.allowed:.2e} is allowed"
            )
        return check


def prepare_checked(contender: Contender, phase: str, truth: Truth) -> tuple[Task, Check | None]:
    """The contender's task, checked.

    Raises:
        NotAvailableError: it cannot run here. CheckFailedError: its result is wrong.
    """
    task = contender.prepare(truth.inputs, phase)
    return task, truth.check(contender, task, phase)


def _largest(x: Tensor) -> float:
    return float(x.abs().max()) if x.numel() else 0.0
