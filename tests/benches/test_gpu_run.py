"""What the GPU check does when a suite dies, hangs or gives a wrong result, and how it judges."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benches.gpu import run as run_module
from benches.gpu.clock import Schedule
from benches.gpu.contenders import Function, contender
from benches.gpu.gather import Phase, gather
from benches.gpu.goals import GOALS, judge
from benches.gpu.journal import Journal
from benches.gpu.junit import read_summary
from benches.gpu.plots import draw
from benches.gpu.report import dispatch_lines, short_lines
from benches.gpu.run import supervise
from benches.gpu.runner import Session, run_suite
from fusionkit.bench.case import BOTH, FORWARD, FULL, Case, Inputs, Suite, Work
from fusionkit.bench.record import Record
from fusionkit.bench.timing import Timing

from fuzz import blocks, two_generators


def record(ours: float, roofline: float | None = None, **changes: str) -> Record:
    times = {"fusionkit triton": ours, "SDPA flash": 1.0}
    one = Record(
        op="cross_attention",
        case="D64 2048x2048 float16 B4 H8",
        group="D64",
        variant=FULL,
        phase=FORWARD,
        threads=1,
        ours="fusionkit triton",
        seconds={name: Timing(t, t, 5, False) for name, t in times.items()},
        comparable=("SDPA flash",),
        roofline=roofline,
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def case(wrong: bool = False) -> Case:
    """The square of x, and one who adds 1 to it if it is ``wrong``."""

    def square(offset: float) -> Function:
        def run(leaves: Mapping[str, Tensor]) -> Sequence[Tensor]:
            return [leaves["x"].square() + offset]

        return run

    return Case(
        name="square",
        group="squares",
        variant=FULL,
        inputs=lambda: Inputs({"x": torch.arange(3.0)}),
        reference=lambda inputs, phase: (
            contender("", lambda i: square(0.0)).prepare(inputs, phase).results()
        ),
        contenders=(
            contender("plain", lambda inputs: square(0.0)),
            contender("slow", lambda inputs: square(0.0), slow_start=True),
            contender("fusionkit", lambda inputs: square(0.0), role="ours"),
            contender("fusionkit cpu", lambda inputs: square(float(wrong)), role="ours"),
        ),
        work={FORWARD: Work(3.0, 24.0), BOTH: None},
    )


def session(seconds: float = 60.0, **changes: object) -> Session:
    schedule = Schedule(rounds=2, block_seconds=0.0)
    one = Session(torch.device("cpu"), schedule, {}, 0, time.monotonic() + seconds, {}, False)
    return replace(one, **changes)  # type: ignore[arg-type]


def test_a_wrong_result_has_no_time_and_is_told(tmp_path: Path) -> None:
    suite = Suite("squares", (case(wrong=True),))
    run_suite(suite, session(), Journal(tmp_path, "gated_mask"))
    findings = gather(tmp_path, {"scope": "dry"})
    forward, both = findings.report.records
    assert set(forward.seconds) == {"plain", "fusionkit"}
    assert forward.left_out["slow"].startswith("it compiles")
    assert "fusionkit cpu: output 0 is off by 1.00e+00" in findings.wrong[0]
    assert (both.phase, both.ours) == (BOTH, "fusionkit")


def test_kernels_come_before_what_dispatch_chooses(tmp_path: Path) -> None:
    run_suite(Suite("squares", (case(),)), session(), Journal(tmp_path, "gated_mask"))
    assert {r.ours for r in gather(tmp_path, {"scope": "dry"}).report.records} == {"fusionkit cpu"}


def test_no_case_starts_late_and_none_twice(tmp_path: Path) -> None:
    suite, journal = Suite("squares", (case(),)), Journal(tmp_path, "gated_mask")
    run_suite(suite, session(seconds=-1.0), journal)
    assert journal.lines("left_out") == [["squares: square, full", "no time was left"]]
    assert journal.records() == []
    for _ in range(2):
        run_suite(suite, session(without={"plain": "another case"}), journal)
    assert [r.left_out["plain"] for r in journal.records()] == [
        "it ended the process in another case"
    ] * 2


def start(script: str, folder: Path) -> run_module.Start:
    def begin(suite: str, seconds: float, without: dict[str, str]) -> subprocess.Popen[bytes]:
        code = f"import json, os, time\nwithout = json.loads({json.dumps(json.dumps(without))})\n"
        return subprocess.Popen([sys.executable, "-c", code + script], cwd=folder)

    return begin


def test_who_ends_the_process_is_left_out_of_the_next(tmp_path: Path) -> None:
    script = "if 'bad' not in without: open('s.now', 'w').write('bad\\tcase 3'); os._exit(9)"
    journal = Journal(tmp_path, "s")
    assert supervise("s", 60.0, start(script, tmp_path), journal).startswith("s: ")
    assert journal.lines("crash") == [["bad", "case 3", "ended with code 9"]]


def test_who_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "STALL_SECONDS", 0.5)
    script = "if not without: open('s.now', 'w').write('slow\\tcase 1'); time.sleep(600)"
    journal = Journal(tmp_path, "s")
    supervise("s", 60.0, start(script, tmp_path), journal)
    assert [line[0] for line in journal.lines("crash")] == ["slow"]


def test_a_suite_that_always_dies_is_given_up(tmp_path: Path) -> None:
    line = supervise("s", 60.0, start("os._exit(3)", tmp_path), Journal(tmp_path, "s"))
    assert line.endswith("ended with code 3")


def test_goals_are_judged_on_the_cases_that_they_are_for() -> None:
    flash = [goal for goal in GOALS if goal.against == "SDPA flash" and "float16" in goal.words]
    forward, both = judge([record(ours=1.25)], flash)
    assert (forward.met, forward.found) == (True, 0.8)
    assert (both.met, both.found) == (None, None)
    assert judge([record(ours=1.3)], flash)[0].met is False
    assert judge([record(ours=1.0, variant="70 %")], flash)[0].met is None
    slow = record(ours=2.0)
    chosen = replace(slow, seconds={**slow.seconds, "fusionkit": Timing(1.1, 1.1, 5, False)})
    assert judge([slow], flash)[0].by == "fusionkit triton"
    outcome = judge([chosen], flash)[0]
    assert outcome.met is True and "; what dispatch chose]" in outcome.in_words()
    copies = [goal for goal in GOALS if goal.op == "gated_mask"]
    large = record(1.0, 0.9, op="gated_mask", case="2048x125x300 float32", group="over 256 MB")
    assert judge([large], copies)[0].met is True
    assert judge([replace(large, roofline=0.8)], copies)[0].in_words().startswith("MISSED")


def test_ours_may_be_taken_under_a_graph() -> None:
    eager = record(2.0, op="training_step", group="mult unaligned", phase="step", variant="70 %")
    plain = Timing(9.0, 9.0, 5, False)
    eager = replace(eager, seconds={**eager.seconds, "plain, packed": plain})
    graph = record(1.0, op="training_step", group="mult unaligned", phase="step, graph",
                   variant="70 %")  # fmt: skip
    goals = [goal for goal in GOALS if "mult unaligned" in goal.words and goal.variant == "70 %"]
    assert [outcome.found for outcome in judge([eager, graph], goals)] == [4.5, 9.0]


def test_a_summary_of_tests(tmp_path: Path) -> None:
    file = tmp_path / "tests.xml"
    assert read_summary(file) is None
    file.write_text(
        '<testsuites><testsuite><testcase classname="tests.ops.test_x" name="a"/>'
        '<testcase classname="tests.ops.test_x" name="b"><failure message="off by 2"/></testcase>'
        '<testcase classname="c" name="d"><skipped message="no device"/></testcase>'
        "</testsuite></testsuites>"
    )
    found = read_summary(file)
    assert found is not None
    assert found.counts == {"passed": 1, "failed": 1, "skipped": 1}
    assert found.failures == {"test_x::b": "off by 2"}
    assert found.skipped == {"no device": 1}


def test_a_phase_whose_time_was_over_says_so() -> None:
    assert Phase("tests", 124, 130.0, 130.0).in_words().startswith("tests: its time was over")
    assert "exit code 1" in Phase("build", 1, 3.0, 170.0).in_words()


def test_short_lines_have_both_clocks() -> None:
    eager, graph = record(0.5, 0.4), record(0.25, 0.8, phase="fwd, graph")
    head, line = short_lines([eager, graph])
    assert head.startswith("-- cross_attention: ours")
    assert line.endswith("full | fwd 500 ms triton x2.00 gx4.00 80 %")
    nothing = replace(eager, seconds={"SDPA flash": Timing(1.0, 1.0, 5, False)})
    assert short_lines([nothing])[1].endswith("fwd none of ours")


def test_what_dispatch_should_have_chosen_is_told() -> None:
    one = record(1.0)
    for seconds, lines in ((1.1, 0), (1.2, 1)):
        chosen = Timing(seconds, seconds, 5, False)
        found = dispatch_lines([replace(one, seconds={**one.seconds, "fusionkit": chosen})])
        assert len(found) == lines


def test_every_operator_has_as_many_random_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSIONKIT_FUZZ_CASES_EACH", "60")
    assert blocks(0.02) == blocks(0.5) == [range(first, 60, 3) for first in range(3)]
    monkeypatch.setenv("FUSIONKIT_FUZZ_CASES_EACH", "many")
    with pytest.raises(ValueError, match="FUSIONKIT_FUZZ_CASES_EACH=many"):
        blocks(0.02)


def test_what_is_compiled_repeats_and_all_else_does_not() -> None:
    drawn = [[r.random() for r in two_generators(seed, 4)] for seed in range(40)]
    assert len({build for build, _ in drawn}) == 4
    assert len({rest for _, rest in drawn}) == 40
    assert len({two_generators(seed, None)[0].random() for seed in range(40)}) == 40


def test_a_phase_tells_what_it_left_out() -> None:
    line = Phase("memcheck", 0, 73.0, 110.0, "skipped: 2 of 41 calls").in_words()
    assert line == "memcheck: done, 73 of at most 110 s; skipped: 2 of 41 calls"


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    eager, graph = record(0.5, 0.4), record(0.25, 0.8, phase="fwd, graph")
    draw([eager, graph], tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert names == {"ratios.png", "ratios_graph.png", "roofline.png"}
