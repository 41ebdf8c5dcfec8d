"""Which backend runs, and what is said about it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from fusionkit.errors import ConfigError, UnknownNameError
from fusionkit.ops import backends, crossovers, gated_mask
from fusionkit.ops.backends import (
    Backend,
    BackendError,
    available_backends,
    choose,
    explain,
    force_backend,
    register_backend,
    temporary_backends,
)
from fusionkit.ops.crossovers import Crossover


def backend(
    name: str,
    priority: int,
    reasons: list[str],
    unavailable: str = "",
    slower: list[str] | None = None,
) -> Backend:
    return Backend(
        op="toy",
        name=name,
        run=lambda x: (name, x),
        not_supported_reasons=lambda x: reasons,
        priority=priority,
        summary=f"summary of {name}",
        unavailable=unavailable,
        slower_reasons=None if slower is None else lambda x: slower,
    )


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An operator `toy` with a reference, a backend that refuses, and one that is absent."""
    monkeypatch.setattr(backends, "_backends", {})
    monkeypatch.setattr(backends, "_forced", [])
    register_backend(backend("reference", 0, []))
    register_backend(backend("picky", 20, ["x is too small", "x is too blue"]))
    register_backend(backend("absent", 30, [], unavailable="no such device"))
    register_backend(backend("fast", 10, []))
    yield


@pytest.mark.usefixtures("toy")
class TestToyOperator:
    def test_order_is_by_priority(self) -> None:
        names = [b.name for b in available_backends()["toy"]]
        assert names == ["absent", "picky", "fast", "reference"]

    def test_highest_priority_without_reasons_runs(self) -> None:
        assert choose("toy", 1).run(1) == ("fast", 1)

    def test_forced(self) -> None:
        with force_backend("reference"):
            assert choose("toy", 1).name == "reference"
            with force_backend("fast"):
                assert choose("toy", 1).name == "fast"
            assert choose("toy", 1).name == "reference"
        assert choose("toy", 1).name == "fast"

    def test_forced_is_given_back_after_an_error(self) -> None:
        with pytest.raises(ZeroDivisionError), force_backend("reference"):
            raise ZeroDivisionError
        assert choose("toy", 1).name == "fast"

    def test_forced_that_cannot_run_says_why(self) -> None:
        with force_backend("picky"), pytest.raises(BackendError) as error:
            choose("toy", 1)
        assert "toy" in str(error.value) and "picky" in str(error.value)
        assert "x is too small; x is too blue" in str(error.value)

    def test_forced_that_is_absent_says_why(self) -> None:
        with force_backend("absent"), pytest.raises(BackendError, match="no such device"):
            choose("toy", 1)

    def test_unknown_name(self) -> None:
        with (
            pytest.raises(UnknownNameError, match="did you mean 'reference'"),
            force_backend("refrence"),
        ):
            pass

    def test_operator_without_the_forced_backend_runs_its_reference(self) -> None:
        other = backend("special", 5, [])
        register_backend(Backend(**{**vars(other), "op": "other"}))
        with force_backend("special"):
            assert choose("toy", 1).name == "reference"

    def test_name_is_taken(self) -> None:
        with pytest.raises(ConfigError, match="toy has a backend 'fast' already"):
            register_backend(backend("fast", 1, []))

    def test_explain(self) -> None:
        assert explain("toy", 1).splitlines() == [
            "toy",
            "  absent     no such device  [summary of absent]",
            "  picky      x is too small; x is too blue  [summary of picky]",
            "  fast       chosen  [summary of fast]",
            "  reference  a backend of higher priority is chosen  [summary of reference]",
        ]

    def test_measured_slower_is_not_chosen_but_can_be_forced(self) -> None:
        why = "measured slower than fast below 9 elements (2026-11-21, some CPU)"
        register_backend(backend("big", 40, [], slower=[why]))
        assert choose("toy", 1).name == "fast"
        assert f"  big        {why}  [summary of big]" in explain("toy", 1)
        with force_backend("big"):
            assert choose("toy", 1).name == "big"
            assert "  big        chosen (forced)" in explain("toy", 1)

    def test_not_measured_slower_is_chosen(self) -> None:
        register_backend(backend("big", 40, [], slower=[]))
        assert choose("toy", 1).name == "big"

    def test_slower_is_not_asked_where_it_cannot_run(self) -> None:
        def fail(x: object) -> list[str]:
            raise AssertionError("asked")

        register_backend(Backend(**{**vars(backend("no", 40, ["no"])), "slower_reasons": fail}))
        assert choose("toy", 1).name == "fast"

    def test_reference_cannot_be_slower(self) -> None:
        with pytest.raises(ConfigError, match="other: the reference takes everything"):
            register_backend(
                Backend(**{**vars(backend("reference", 0, [], "", [])), "op": "other"})
            )

    def test_explain_shows_the_measured_crossover(self, monkeypatch: pytest.MonkeyPatch) -> None:
        entry = Crossover("toy", {}, {"a": 2.0}, "2026-11-21", "some CPU", "2.13.0", "never slower")
        monkeypatch.setattr(crossovers, "_crossovers", {"toy": entry})
        assert explain("toy", 1).splitlines()[-1] == (
            "  measured   never slower; ratios 2.0 to 2.0 (2026-11-21, some CPU, torch 2.13.0)"
        )

    def test_explain_forced(self) -> None:
        with force_backend("reference"):
            assert "  reference  chosen (forced)" in explain("toy", 1)

    def test_explain_unknown_operator(self) -> None:
        with pytest.raises(UnknownNameError, match="unknown operator 'toys'"):
            explain("toys", 1)


def test_reference_is_there_for_every_operator() -> None:
    import fusionkit.ops  # noqa: F401

    for op, found in available_backends().items():
        assert found[-1].name == "reference" and found[-1].priority == 0, op


PROGRAM = """
import torch
from fusionkit.ops import explain
x = torch.zeros(1, 2, 3)
print(explain("gated_mask", x, [x]))
"""


def run_with(forced: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "FUSIONKIT_BACKEND": forced},
        capture_output=True,
        text=True,
    )


def test_environment_variable_forces() -> None:
    assert "reference  chosen (forced)" in run_with("reference").stdout


def test_environment_variable_with_an_unknown_name() -> None:
    result = run_with("refrence")
    assert result.returncode != 0
    assert "unknown backend 'refrence'; did you mean 'reference'?" in result.stderr


def test_choose_can_be_compiled() -> None:
    """No graph break: the choice is made while tracing."""

    def names(x: torch.Tensor) -> torch.Tensor:
        return x + len(choose("gated_mask", x, [x]).name)

    import fusionkit.ops  # noqa: F401

    x = torch.zeros(1, 2, 3)
    compiled = torch.compile(names, fullgraph=True, backend="eager")
    assert torch.equal(compiled(x), names(x))


def test_temporary_backends_come_first_and_go() -> None:
    x = torch.ones(1, 2, 3)
    before = available_backends()
    mine = Backend(
        op="gated_mask",
        name="mine",
        run=lambda x, *args, **kwargs: x + 1,
        not_supported_reasons=lambda *args, **kwargs: [],
    )
    with pytest.raises(KeyError), temporary_backends(mine):
        assert torch.equal(gated_mask(x, [x]), x + 1)
        raise KeyError
    assert available_backends() == before
