"""What a spec accepts, and that it survives JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusionkit.data.spec import DataSpec
from fusionkit.errors import DataError


def test_json_round_trip() -> None:
    spec = DataSpec(
        {"b": 2, "a": 3}, "classification", 2, aligned=True, class_names=("no", "yes"),
        context={"turn": 9, "speaker": 3},
    )  # fmt: skip
    read = DataSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert read == spec
    assert list(read.modalities) == ["b", "a"]
    assert list(read.context) == ["turn", "speaker"]


def test_files_from_before_there_was_a_context() -> None:
    content = DataSpec({"a": 1}, "regression", 1).to_json()
    del content["context"]
    assert DataSpec.from_json(content) == DataSpec({"a": 1}, "regression", 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, "regression", 1), "modalities: a data set needs at least one"),
        (({"a b": 1}, "regression", 1), "modalities: 'a b' must be a plain identifier"),
        (({"a": 0}, "regression", 1), "modalities: 'a' has 0 features"),
        (({"a": 1}, "ranking", 1), "task: 'ranking' is none of"),
        (({"a": 1}, "classification", 1), "num_outputs: 1 is too few"),
        (({"a": 1}, "multilabel", 0), "num_outputs: 0 is too few"),
        (({"a": 1}, "classification", 3, False, ("x",)), "class_names: 1 names for 3"),
        (({"a": 1}, "regression", 1, False, (), {"s t": 2}), "context: 's t' must be a plain"),
        (({"a": 1}, "regression", 1, False, (), {"id": 2}), "context: 'id' has another meaning"),
        (({"a": 1}, "regression", 1, False, (), {"a": 2}), "context: 'a' belongs to a modality"),
        (({"a": 1}, "regression", 1, False, (), {"a_len": 2}), "'a_len' belongs to a modality"),
        (({"a": 1}, "regression", 1, False, (), {"b": 0}), "context: 'b' has 0 indices"),
    ],
)
def test_wrong_specs(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSpec(*arguments)
