"""Benchmarks share their cases with `fusionkit bench`, and run with its allocator settings.

A module names its suite in ``OP``; a test that asks for ``case``, ``phase`` and ``contender`` runs
once for each combination. The JSON of pytest-benchmark says on what machine it was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import pytest

from fusionkit.bench.allocator import restart_with_settings, settings_in_words
from fusionkit.errors import MisuseError

if TYPE_CHECKING:
    from fusionkit.bench.case import Case, Contender
    from fusionkit.bench.correctness import Truth

TimeContender = Callable[["Case", str, "Contender"], None]


def pytest_configure(config: pytest.Config) -> None:
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture is not None:
        capture.suspend_global_capture(in_=True)
    try:
        restart_with_settings()
    except MisuseError as error:
        raise pytest.UsageError(str(error)) from None
    finally:
        if capture is not None:
            capture.resume_global_capture()


def pytest_report_header() -> list[str]:
    return [f"allocator: {settings_in_words()}"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "contender" not in metafunc.fixturenames:
        return
    from fusionkit.bench.suites import load_suite

    suite = load_suite(metafunc.module.OP)
    combinations = [
        pytest.param(case, phase, contender, id=f"{case.title}-{phase}-{contender.name}")
        for case in suite.cases
        for phase in case.phases
        for contender in case.contenders
    ]
    if not combinations:
        why = "; ".join(suite.left_out.values())
        combinations = [pytest.param(None, "", None, id="none", marks=pytest.mark.skip(why))]
    metafunc.parametrize(("case", "phase", "contender"), combinations)


@pytest.fixture
def time_contender(benchmark: Any) -> TimeContender:
    """Check a contender against float64, then time it."""
    from fusionkit.bench.case import NotAvailableError
    from fusionkit.bench.compiled import forget_compiled
    from fusionkit.bench.correctness import prepare_checked

    def run(case: Case, phase: str, contender: Contender) -> None:
        forget_compiled()
        try:
            task, _ = prepare_checked(contender, phase, _truth(case))
        except NotAvailableError as reason:
            pytest.skip(f"{contender.name}: {reason}")
        benchmark.group = f"{case.title}, {phase}"
        benchmark(task.run)

    return run


@lru_cache(maxsize=1)
def _truth(case: Case) -> Truth:
    """One at a time: the results of a long case are large."""
    from fusionkit.bench.correctness import Truth

    return Truth(case)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    import torch

    from fusionkit.bench.machine import machine_facts

    machine_info.update(machine_facts(), node="", threads=torch.get_num_threads())


def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, Any]:
    """The version, instead of what a repository around the files may say."""
    from fusionkit import __version__

    return {"id": __version__, "project": "fusionkit", "dirty": False, "branch": ""}
