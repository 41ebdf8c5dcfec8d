"""Whole models with and without our kernels, on the cases of `fusionkit bench`."""

from __future__ import annotations

from collections.abc import Callable

from fusionkit.bench.case import Case, Contender

OP = "model"


def test_model(
    time_contender: Callable[[Case, str, Contender], None],
    case: Case,
    phase: str,
    contender: Contender,
) -> None:
    time_contender(case, phase, contender)
