"""`cross_attention` beside what PyTorch has, on the cases of `fusionkit bench`."""

from __future__ import annotations

from collections.abc import Callable

from fusionkit.bench.case import Case, Contender

OP = "cross_attention"


def test_cross_attention(
    time_contender: Callable[[Case, str, Contender], None],
    case: Case,
    phase: str,
    contender: Contender,
) -> None:
    time_contender(case, phase, contender)
