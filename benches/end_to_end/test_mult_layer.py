"""A layer of MulT beside `nn.MultiheadAttention`, on the case of `fusionkit bench`."""

from __future__ import annotations

from collections.abc import Callable

from fusionkit.bench.case import Case, Contender

OP = "mult_layer"


def test_mult_layer(
    time_contender: Callable[[Case, str, Contender], None],
    case: Case,
    phase: str,
    contender: Contender,
) -> None:
    time_contender(case, phase, contender)
