"""Turns, quiet blocks, the roofline, and the allocator; nothing here depends on a time."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from fusionkit.bench import allocator
from fusionkit.bench.case import NotAvailableError, Task, Work
from fusionkit.bench.ceilings import Ceilings, cache_bytes, measure_ceilings
from fusionkit.bench.compiled import compile_whole, forget_compiled, proven
from fusionkit.bench.quiet import OthersMeter, busy_seconds
from fusionkit.bench.timing import QUICK, Block, Plan, summarize, time_interleaved
from fusionkit.errors import MisuseError


def test_contenders_take_turns() -> None:
    turns: list[str] = []
    runs = {name: partial(turns.append, name) for name in "ab"}
    plan = Plan(rounds=3, slow_rounds=1, block_seconds=0.0, repeats=0)
    found = time_interleaved(runs, plan)
    assert {timing.blocks for timing in found.values()} == {3}
    # Three calls to warm up, then blocks of one call after one that is not counted.
    assert turns[6:] == ["a", "a", "b", "b"] * 3


def test_disturbed_blocks_do_not_count() -> None:
    timing = summarize([Block(5.0, 0.0), Block(7.0, 0.1), Block(9.0, None), Block(1.0, 0.5)])
    assert (timing.seconds, timing.median, timing.blocks, timing.noisy) == (5.0, 7.0, 3, False)


def test_without_a_quiet_block_all_count_and_it_is_said() -> None:
    timing = summarize([Block(5.0, 0.9), Block(4.0, 0.3)])
    assert (timing.seconds, timing.blocks, timing.noisy) == (4.0, 2, True)


def test_disturbed_turns_are_repeated_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OthersMeter, "cores", lambda self: 1.5)
    plan = Plan(rounds=2, slow_rounds=1, block_seconds=0.0, repeats=3)
    timing = time_interleaved({"a": lambda: None}, plan)["a"]
    assert (timing.blocks, timing.noisy) == (2 * 4, True)


def test_busy_time_is_without_idle_and_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    stat = "cpu  100 20 30 9999 8888 4 5 6 50 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"
    assert busy_seconds(stat) == pytest.approx((100 + 20 + 30 + 4 + 5 + 6) / 100)


def test_meter_does_not_judge_moments() -> None:
    assert OthersMeter().cores() is None


def test_roofline_is_the_slower_of_products_and_bytes() -> None:
    ceilings = Ceilings(1, 100.0, {"l2": 50.0, "memory": 10.0}, {"l2": 1000})
    assert ceilings.seconds(Work(flops=1e9, bytes=100)) == pytest.approx(0.01)
    assert ceilings.level(Work(0, 1000)) == "l2"
    assert ceilings.seconds(Work(flops=1.0, bytes=1e9)) == pytest.approx(0.1)


def test_measured_ceilings_leave_the_threads_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusionkit.bench.ceilings._MEMORY_BYTES", 2**20)
    monkeypatch.setattr("fusionkit.bench.ceilings._GEMM_SIZE", 64)
    before = torch.get_num_threads()
    ceilings = measure_ceilings(1, seconds=0.0)
    assert torch.get_num_threads() == before
    assert ceilings.gflops > 0
    assert set(ceilings.gbytes) == {"l2", "l3", "memory"}


def test_ceilings_are_measured_again_while_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds, others = iter([50.0, 90.0, 70.0]), iter([0.9, 0.8, 0.0])
    monkeypatch.setattr("fusionkit.bench.ceilings._gemm_gflops", lambda seconds: next(speeds))
    monkeypatch.setattr("fusionkit.bench.ceilings._copy_gbytes", lambda size, seconds: 1.0)
    monkeypatch.setattr(OthersMeter, "cores", lambda self: next(others))
    ceilings = measure_ceilings(1, seconds=0.0, repeats=5)
    assert (ceilings.gflops, ceilings.others) == (90.0, 0.0)


def test_cache_sizes_come_from_the_system(tmp_path: Path) -> None:
    for index, (level, size) in enumerate((("1", "32K"), ("2", "512K"), ("3", "36M"))):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "level").write_text(level + "\n")
        (folder / "size").write_text(size + "\n")
    assert cache_bytes(2, tmp_path) == 512 * 2**10
    assert cache_bytes(3, tmp_path) == 36 * 2**20
    assert cache_bytes(2, tmp_path / "missing") == 2**20


def test_restart_is_refused_where_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.delenv("MALLOC_TOP_PAD_", raising=False)
    with pytest.raises(MisuseError, match="start with MALLOC_MMAP_THRESHOLD_=1073741824"):
        allocator.restart_with_settings()


def test_no_restart_with_the_settings_or_another_c_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert not allocator.settings_missing()
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    for name, value in allocator.ALLOCATOR.items():
        monkeypatch.setenv(name, value)
    assert not allocator.settings_missing()
    allocator.restart_with_settings()


def test_a_process_without_the_settings_starts_anew() -> None:
    code = (
        "import os, platform; platform.libc_ver = lambda: ('glibc', '2.36')\n"
        "from fusionkit.bench.allocator import restart_with_settings, settings_in_words\n"
        "restart_with_settings(); print(settings_in_words())"
    )
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    expected = " ".join(f"{name}={value}" for name, value in allocator.ALLOCATOR.items())
    assert output.strip() == expected


def test_what_does_not_compile_is_not_available() -> None:
    forget_compiled()
    x = torch.ones(3)

    def breaks(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x + 1

    function = compile_whole(breaks)
    with pytest.raises(NotAvailableError, match=r"torch\.compile failed"):
        proven(Task(lambda: function(x), dict))


def test_what_was_never_compiled_is_no_compiled_contender() -> None:
    with pytest.raises(NotAvailableError, match="ran the function as it is"):
        proven(Task(lambda: None, dict))


def test_quick_is_short() -> None:
    assert QUICK.rounds * QUICK.block_seconds < 0.05
