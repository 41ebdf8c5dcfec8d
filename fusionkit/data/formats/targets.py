"""Turns the target column of a file into what a task needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.spec import Task
from fusionkit.errors import ConfigError, DataError


@dataclass(frozen=True)
class Targets:
    """Targets of all samples, and the part of the spec that they decide."""

    values: NDArray[np.generic]
    task: Task
    num_outputs: int
    class_names: tuple[str, ...] = ()


def read_targets(column: NDArray[Any], task: Task | None, *, where: str) -> Targets:
    """Classes are numbered 0..K-1 in the sorted order of their values, which become their names.

    Without a ``task``, whole numbers, truth values and text mean classification, a table of 0 and 1
    means multilabel, and everything else regression.

    Args:
        column: (N,) or (N, K). where: file and field, for messages.

    Raises:
        ConfigError: the column cannot be read as ``task``. DataError: fewer than two classes.
    """
    task = task or _guess(column)
    if task == "classification":
        return _classes(column, where)
    if column.ndim not in (1, 2) or column.dtype.kind not in "biuf":
        raise ConfigError(
            f"{where} is {column.dtype} of shape {column.shape}, which is no target of {task}; "
            "choose another target or task"
        )
    values = column.astype(np.float32)
    if task == "multilabel":
        values = values.reshape(len(values), -1)
    outputs = 1 if values.ndim == 1 else values.shape[1]
    return Targets(values, task, outputs)


def _guess(column: NDArray[Any]) -> Task:
    if column.ndim == 1:
        return "regression" if column.dtype.kind == "f" else "classification"
    return "multilabel" if bool(np.isin(column, (0, 1)).all()) else "regression"


def _classes(column: NDArray[Any], where: str) -> Targets:
    kind = column.dtype.kind
    whole = kind in "biuUS" or (kind == "f" and bool((column == np.round(column)).all()))
    if column.ndim != 1 or not whole:
        raise ConfigError(
            f"{where} is {column.dtype} of shape {column.shape}, which are no class labels; choose "
            "another target, or task regression"
        )
    if kind == "f" and not bool(np.isfinite(column).all()):
        raise DataError(f"{where} holds NaN or infinite labels; remove these samples")
    labels = column.astype(np.int64) if kind in "bf" else column
    names, indices = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"{where} has one class only ({names[0]}); classification needs two")
    return Targets(
        indices.astype(np.int64),
        "classification",
        len(names),
        tuple(str(n) for n in names.tolist()),
    )
