"""What a spec accepts, and that it survives JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fusionkit.data.spec import DataSpec
from fusionkit.errors import DataError


def test_json_round_trip() -> None:
    spec = DataSpec({"b": 2, "a": 3}, "classification", 2, aligned=True, class_names=("no", "yes"))
    read = DataSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert read == spec
    assert list(read.modalities) == ["b", "a"]


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
    ],
)
def test_wrong_specs(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DataSpec(*arguments)
