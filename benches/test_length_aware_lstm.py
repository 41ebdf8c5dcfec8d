"""`length_aware_lstm` beside `nn.LSTM`, on the cases of `fusionkit bench`."""

from __future__ import annotations

from collections.abc import Callable

from fusionkit.bench.case import Case, Contender

OP = "length_aware_lstm"


def test_length_aware_lstm(
    time_contender: Callable[[Case, str, Contender], None],
    case: Case,
    phase: str,
    contender: Contender,
) -> None:
    time_contender(case, phase, contender)
