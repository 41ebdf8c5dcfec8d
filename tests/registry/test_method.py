"""A method refuses data that it cannot take, and says why."""

from __future__ import annotations

import pytest

from fusionkit import ConfigError, DataError, DataSpec, Method, MethodConfig


def method(**options: object) -> Method:
    return Method(name="m", summary="", config=MethodConfig, build=lambda c, s: None, **options)  # type: ignore[arg-type,return-value]


def spec(*names: str, task: str = "regression") -> DataSpec:
    return DataSpec(dict.fromkeys(names, 3), task, 2)  # type: ignore[arg-type]


def test_number_of_modalities() -> None:
    with pytest.raises(DataError, match=r"at least 2 modalities, the data have 1 \(audio\)"):
        method().check(spec("audio"))
    with pytest.raises(DataError, match="at most 2 modalities, the data have 3"):
        method(max_modalities=2).check(spec("a", "b", "c"))
    method().check(spec("a", "b", "c", "d"))


def test_missing_role() -> None:
    with pytest.raises(DataError, match="needs a modality 'language'; the data have audio, vision"):
        method(roles=("language",)).check(spec("audio", "vision"))


def test_task() -> None:
    with pytest.raises(ConfigError, match="cannot be trained for regression, only for multilabel"):
        method(tasks=frozenset({"multilabel"})).check(spec("a", "b"))


def test_configuration_is_strict_and_frozen() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        MethodConfig(nothing=1)  # type: ignore[call-arg]
