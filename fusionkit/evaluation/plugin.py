"""Registers the metric sets that come with FusionKit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fusionkit.registry.hookspecs import hookimpl

if TYPE_CHECKING:
    from fusionkit.evaluation.metric_set import MetricSet


@hookimpl
def fusionkit_register_metrics(register: Callable[[MetricSet], None]) -> None:
    """Our own sets, and the official evaluation codes of four projects."""
    # imported here because they need torch, and loading a plugin must not
    from fusionkit.evaluation import default
    from fusionkit.evaluation.compatibility import mmlatch, mmsa, msaf, mult

    for module in (default, mmlatch, mmsa, msaf, mult):
        for metric_set in module.METRIC_SETS:
            register(metric_set)
