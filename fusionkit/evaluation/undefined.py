"""The error of a metric that the data leave undefined."""

from __future__ import annotations

from fusionkit.errors import DataError


class UndefinedMetricError(DataError):
    """An official evaluation code raises on these data, so its values do not exist.

    FusionKit's own metrics give nan instead. Training and evaluation catch this error and report
    the values of the set as undefined.
    """
