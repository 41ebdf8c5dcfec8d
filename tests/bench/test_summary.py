"""Means, goals, changes, and the file that carries them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fusionkit.bench.case import FORWARD, FULL, PARTIAL
from fusionkit.bench.compare import compare_records
from fusionkit.bench.goals import Goal
from fusionkit.bench.machine import differences, machine_facts
from fusionkit.bench.plot import check_matplotlib, plot_ratios
from fusionkit.bench.record import SCHEMA, Record, Report
from fusionkit.bench.summary import geometric_mean, summarize_classes
from fusionkit.bench.tables import format_seconds, left_out_lines
from fusionkit.bench.timing import Timing
from fusionkit.errors import DataError, MisuseError


def record(
    case: str = "a", ours: float = 1.0, variant: str = FULL, threads: int = 1, **others: float
) -> Record:
    times = {"fusionkit": ours, **(others or {"eager": 2.0})}
    return Record(
        op="fake",
        case=case,
        group="small",
        variant=variant,
        phase=FORWARD,
        threads=threads,
        ours="fusionkit",
        seconds={name: Timing(t, t, 7, False) for name, t in times.items()},
        comparable=tuple(others or ["eager"]),
        flops=1e9,
        bytes=2e9,
        roofline=0.5,
    )


def goal(at_least: float, **changes: str) -> Goal:
    return replace(Goal("fake", "small", FULL, FORWARD, at_least), **changes)  # type: ignore[arg-type]


def test_geometric_mean_by_hand() -> None:
    assert geometric_mean([1.0, 4.0]) == pytest.approx(2.0)
    assert geometric_mean([2.0, 2.0, 16.0]) == pytest.approx(4.0)
    assert geometric_mean([3.0]) == pytest.approx(3.0)


def test_best_is_the_fastest_that_computes_the_same() -> None:
    one = record(ours=2.0, eager=6.0, sdpa=5.0)
    assert (one.best, one.ratio(), one.ratio("eager")) == ("sdpa", 2.5, 3.0)
    assert one.ratio("absent") is None
    alone = replace(one, comparable=())
    assert (alone.best, alone.ratio()) == (None, None)


def test_classes_are_averaged_and_judged() -> None:
    records = [record("a", eager=1.0), record("b", eager=4.0)]
    (line,) = summarize_classes(records, [goal(2.0)])
    assert (line.cases, line.smallest, line.largest, line.met) == (2, 1.0, 4.0, True)
    assert line.mean == pytest.approx(2.0)
    assert summarize_classes(records, [goal(2.1)])[0].met is False
    assert summarize_classes(records, [goal(2.0, rule="each")])[0].met is False
    assert summarize_classes(records, [goal(1.0, rule="each")])[0].met is True
    assert summarize_classes(records, [])[0].met is None


def test_a_goal_against_one_contender_has_its_own_line() -> None:
    records = [record("a", eager=3.0, sdpa=2.0)]
    best, eager = summarize_classes(records, [goal(2.5, against="eager")])
    assert (best.against, best.met) == ("best", None)
    assert best.mean == pytest.approx(2.0)
    assert (eager.against, eager.met) == ("eager", True)
    assert eager.mean == pytest.approx(3.0)
    absent = summarize_classes(records, [goal(2.5, against="absent")])[1]
    assert (absent.cases, absent.mean, absent.met) == (0, None, None)


def test_partial_lengths_are_judged_by_full_ones() -> None:
    at_70 = goal(1.25, variant=PARTIAL, rule="over full")
    full, partial = record("a", eager=2.0), record("a", variant=PARTIAL, eager=2.6)
    assert summarize_classes([full, partial], [at_70])[1].met is True
    assert summarize_classes([full, replace(partial, threads=2)], [at_70])[1].met is None
    slower = record("a", variant=PARTIAL, eager=2.4)
    assert summarize_classes([full, slower], [at_70])[1].met is False


def test_threads_are_apart() -> None:
    lines = summarize_classes([record(), record(threads=2)], [])
    assert [line.threads for line in lines] == [1, 2]


def test_changes_above_ten_percent_are_marked() -> None:
    old = [record("a"), record("b"), record("c"), record("gone")]
    new = [record("a", ours=1.2), record("b", ours=1.05), record("c", ours=0.5), record("new")]
    changes = compare_records(old, new)
    assert [c.key[1] for c in changes] == ["a", "b", "c"]
    assert [c.verdict for c in changes] == ["SLOWER", "", "faster"]
    assert changes[0].ratio == pytest.approx(1.2)
    assert changes[0].other_ratio == pytest.approx(1.0)
    other = compare_records([record("a", eager=2.0)], [record("a", sdpa=2.0)])
    assert other[0].other_ratio is None


def test_machines_that_differ() -> None:
    facts = machine_facts()
    assert differences(facts, {**facts, "date": "another day"}) == []
    (line,) = differences({**facts, "cpu_model": "another"}, facts)
    assert line.startswith("cpu_model: another there, ")


def test_file_has_all_and_reads_back(tmp_path: Path) -> None:
    report = Report(machine_facts(), {"threads": [1]}, {"1": {"gflops": 1.0}}, [record()])
    report.refused["other"] = "off"
    file = tmp_path / "bench.json"
    report.write(file)
    content = json.loads(file.read_text())
    assert content["schema"] == SCHEMA
    assert set(content) == {
        "schema", "machine", "settings", "ceilings", "records", "classes", "refused", "left_out",
    }  # fmt: skip
    assert {
        "cpu_model", "cores", "isa", "torch", "fusionkit", "compiler", "allocator", "date",
    } <= set(content["machine"])  # fmt: skip
    (only,) = content["records"]
    assert (only["ratio"], only["best"], only["noisy"]) == (2.0, "eager", False)
    assert only["seconds"]["eager"] == {"seconds": 2.0, "median": 2.0, "blocks": 7, "noisy": False}
    assert Report.read(file) == report


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", '{"schema": 1}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(DataError, match="was not written by `fusionkit bench --json`"):
        Report.read(file)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "later.json"
    file.write_text('{"schema": 99}')
    with pytest.raises(DataError, match="schema 99, this version reads 1"):
        Report.read(file)


def test_reasons_are_shown_once() -> None:
    one = replace(record(), left_out={"flex": "no backward"})
    assert left_out_lines([one, one], {"x": "why"}) == [
        "flex has no time in 2 rows of fwd: no backward",
        "x is left out: why",
    ]


def test_units() -> None:
    assert format_seconds(1.234e-5) == "12.3 us"
    assert format_seconds(0.9996e-3) == "1 ms"
    assert format_seconds(2.5) == "2.5 s"


def test_plot_without_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MisuseError, match=r"pip install 'fusionkit-torch\[bench\]'"):
        check_matplotlib()


def test_plot_is_a_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is missing: the extra `bench`")
    plot_ratios([record("a"), record("b", threads=2)], tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")
