"""The names that ``--op`` takes, and where their cases are; loading one imports torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fusionkit.errors import UnknownNameError

if TYPE_CHECKING:
    from fusionkit.bench.case import Suite

SUITES = (
    "cross_attention",
    "cross_attention_pairs",
    "gated_mask",
    "length_aware_lstm",
    "mult_layer",
    "model",
)


def check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """The suites that are meant: ``names``, or all if there are none.

    Raises:
        UnknownNameError: with the nearest name.
    """
    for name in names:
        if name not in SUITES:
            raise UnknownNameError("benchmark", name, SUITES)
    return tuple(dict.fromkeys(names)) or SUITES


def load_suite(name: str) -> Suite:
    """The cases of one name."""
    check_names((name,))
    suite: Suite = importlib.import_module(f"fusionkit.bench.cases.{name}").suite()
    return suite
