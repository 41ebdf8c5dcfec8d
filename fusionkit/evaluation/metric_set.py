"""A named set of metrics: what ``--metrics NAME`` chooses and a plugin registers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from fusionkit.data.spec import Task


@dataclass(frozen=True)
class MetricSet:
    """Metrics that are computed together, from all predictions of a split at once.

    Args:
        name: as in ``--metrics NAME``.
        summary: one line for ``fusionkit list``, with the source where an official code is meant.
        compute: task -> function of (predictions, targets) giving name -> value. Predictions are
            the model's raw outputs in float32 on the CPU: (N, num_outputs) logits, or (N,) values
            of a regression with one output. The tasks that are not keys are not supported.
        higher_is_better: metric name -> direction, for every name that ``compute`` can give.
    """

    name: str
    summary: str
    compute: Mapping[Task, Callable[[Tensor, Tensor], dict[str, float]]]
    higher_is_better: Mapping[str, bool]
