"""One way to get predictions and scores, for every method, split and metric set."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import ConfigError, DataError, FusionKitError
from fusionkit.evaluation.metric_set import MetricSet
from fusionkit.evaluation.statistics import bootstrap_intervals
from fusionkit.evaluation.undefined import UndefinedMetricError


@dataclass(frozen=True)
class Score:
    """A value with its 95 % interval (bootstrap over samples); nan where it is undefined."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """JSON-ready; undefined values become null."""
        parts = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(part) else part for name, part in parts.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, float | None]) -> Score:
        """The inverse of `to_json`."""
        value, low, high = (content[name] for name in ("value", "low", "high"))
        return cls(*(math.nan if part is None else part for part in (value, low, high)))


def check_samples(model: nn.Module, store: SequenceStore, where: str) -> None:
    """Ask a model that has ``check_sample`` whether it can take every sample.

    Raises:
        DataError: it cannot; names the data, as ``where`` calls them, and the sample.
    """
    check = getattr(model, "check_sample", None)
    if check is None:
        return
    for index, name in enumerate(store.ids):
        try:
            check({m: torch.from_numpy(store.sequence(m, index)) for m in store.features})
        except DataError as error:
            raise DataError(f"{where}, sample {name!r}: {error}") from None


def predict_store(
    model: nn.Module, store: SequenceStore, *, batch_size: int, device: torch.device | str = "cpu"
) -> Tensor:
    """Raw outputs (N, num_outputs) in float32 on the CPU, in the store's order.

    The model is in evaluation mode while it runs and goes back to what it was.

    Raises:
        FusionKitError: an output is NaN or infinite: a metric would count it as some class.
    """
    was_training = model.training
    model.eval()
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    outputs = []
    try:
        with torch.inference_mode():
            for start in range(0, len(store), batch_size):
                batch = store.batch(range(start, min(start + batch_size, len(store))))
                # A view of a parameter keeps its gradient even in inference mode.
                outputs.append(model(batch.to(device, dtype)).detach().float().cpu())
    finally:
        model.train(was_training)
    result = torch.cat(outputs) if outputs else torch.empty(0, 0)
    wrong = (~result.isfinite()).any(dim=-1).nonzero().flatten().tolist()
    if wrong:
        raise FusionKitError(
            f"the model's outputs are not finite for {len(wrong)} of {len(store)} samples (first: "
            f"{store.ids[wrong[0]]!r}); lower train.learning_rate or set train.clip_norm=1"
        )
    return result


def metric_function(metrics: MetricSet, spec: DataSpec) -> Callable[[Any, Any], dict[str, float]]:
    """The set's function for the data's task, given outputs (N, num_outputs).

    Where an official code raises, its values are absent (`UndefinedMetricError`).

    Raises:
        ConfigError: the set does not know the task.
    """
    if spec.task not in metrics.compute:
        raise ConfigError(
            f"metric set {metrics.name!r} has no metrics for {spec.task}, only for "
            + ", ".join(metrics.compute)
        )
    compute = metrics.compute[spec.task]
    single = spec.task == "regression" and spec.num_outputs == 1

    def values(outputs: Tensor, targets: Tensor) -> dict[str, float]:
        try:
            return compute(outputs.squeeze(1) if single else outputs, targets)
        except UndefinedMetricError:
            return {}

    return values


def score(
    metrics: MetricSet, spec: DataSpec, outputs: Tensor, targets: Tensor, *, seed: int = 0
) -> dict[str, Score]:
    """Every metric of the set with a percentile bootstrap interval over the samples.

    Samples of one subject resemble each other, so the interval says how sure the number is for
    these subjects, not for new ones. What is undefined on these data is nan.
    """
    compute = metric_function(metrics, spec)
    values = compute(outputs, targets)
    intervals = bootstrap_intervals(compute, outputs, targets, seed=seed)
    scores = {name: Score(value, *intervals[name]) for name, value in values.items()}
    return scores or {
        name: Score(math.nan, math.nan, math.nan) for name in metrics.higher_is_better
    }
