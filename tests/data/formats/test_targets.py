"""How a column becomes classes, labels or values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fusionkit.data.formats.targets import read_targets
from fusionkit.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("column", "values", "names"),
    [
        (np.array([10, 2, 10, 7]), [2, 0, 2, 1], ("2", "7", "10")),
        (np.array(["sad", "glad", "sad"]), [1, 0, 1], ("glad", "sad")),
        (np.array([True, False]), [1, 0], ("0", "1")),
        (np.array([3, 5], np.uint8), [0, 1], ("3", "5")),
    ],
)
def test_classes_are_numbered_in_sorted_order(
    column: np.ndarray[Any, Any], values: list[int], names: tuple[str, ...]
) -> None:
    targets = read_targets(column, None, where="f")
    assert (targets.task, targets.num_outputs) == ("classification", len(names))
    assert targets.values.dtype == np.int64
    assert targets.values.tolist() == values
    assert targets.class_names == names


@pytest.mark.parametrize(
    ("column", "task", "outputs"),
    [
        (np.array([0.5, 1.0]), "regression", 1),
        (np.zeros((3, 4)) + 0.5, "regression", 4),
        (np.array([[0, 1], [1, 1]]), "multilabel", 2),
        (np.array([[0.0, 1.0], [1.0, 1.0]]), "multilabel", 2),
    ],
)
def test_values_and_labels(column: np.ndarray[Any, Any], task: str, outputs: int) -> None:
    targets = read_targets(column, None, where="f")
    assert (targets.task, targets.num_outputs, targets.class_names) == (task, outputs, ())
    assert targets.values.dtype == np.float32
    assert np.array_equal(targets.values, column.astype(np.float32))


def test_a_stated_task_wins() -> None:
    assert read_targets(np.array([1, 2]), "regression", where="f").values.tolist() == [1.0, 2.0]
    whole = read_targets(np.array([1.0, 3.0]), "classification", where="f")
    assert (whole.values.tolist(), whole.class_names) == ([0, 1], ("1", "3"))
    assert read_targets(np.array([0, 1]), "multilabel", where="f").values.shape == (2, 1)


@pytest.mark.parametrize(
    ("column", "task"),
    [
        (np.array([0.5, 1.0]), "classification"),
        (np.zeros((3, 2)), "classification"),
        (np.array(["a", "b"]), "regression"),
        (np.zeros((2, 2, 2)), "regression"),
        (np.array(["a"]), "multilabel"),
    ],
)
def test_columns_that_do_not_fit_the_task(column: np.ndarray[Any, Any], task: Any) -> None:
    with pytest.raises(ConfigError, match=r"^my\.npz: target 'y' is .*choose another target"):
        read_targets(column, task, where="my.npz: target 'y'")


def test_one_class_only() -> None:
    with pytest.raises(DataError, match=r"my\.npz has one class only \(4\); .* needs two"):
        read_targets(np.array([4, 4]), None, where="my.npz")
