"""`cross_attention_pairs`, one call for six attentions, on the cases of `fusionkit bench`."""

from __future__ import annotations

from collections.abc import Callable

from fusionkit.bench.case import Case, Contender

OP = "cross_attention_pairs"


def test_cross_attention_pairs(
    time_contender: Callable[[Case, str, Contender], None],
    case: Case,
    phase: str,
    contender: Contender,
) -> None:
    time_contender(case, phase, contender)
