"""Options that are one value for all modalities, or one for each."""

from __future__ import annotations

import pytest

from fusionkit.errors import ConfigError
from fusionkit.nn import check_modalities, per_modality


def test_one_value_for_all_or_one_for_each() -> None:
    assert per_modality("size", 3, ["a", "b"]) == {"a": 3, "b": 3}
    both: int | dict[str, int] = {"b": 1, "a": 2}
    assert list(per_modality("size", both, ["a", "b"]).items()) == [("a", 2), ("b", 1)]
    one: int | dict[str, int] = {"b": 1}
    assert per_modality("size", one, ["a", "b"], 0) == {"a": 0, "b": 1}


def test_wrong_names_are_refused() -> None:
    other: int | dict[str, int] = {"a": 1, "c": 2}
    with pytest.raises(ConfigError, match=r"size: no modality 'c' in the data \(a, b\)"):
        per_modality("size", other, ["a", "b"])
    one: int | dict[str, int] = {"a": 1}
    with pytest.raises(ConfigError, match="size: nothing for 'b'; give one value for each of a, b"):
        per_modality("size", one, ["a", "b"])
    check_modalities("main", ["a"], ["a", "b"])
