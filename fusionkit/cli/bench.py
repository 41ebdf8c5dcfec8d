"""``fusionkit bench``: check and time the operators and models beside plain PyTorch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from fusionkit.bench.suites import SUITES, check_names
from fusionkit.errors import MisuseError


@click.command("bench")
@click.option("--op", "ops", multiple=True, metavar="NAME",
              shell_complete=lambda ctx, param, text: [n for n in SUITES if n.startswith(text)],
              help=f"what to measure, repeatable: {', '.join(SUITES)}  [default: all]")  # fmt: skip
@click.option("--threads", metavar="N,...",
              help="numbers of threads, such as 1,2  [default: 1 and all cores]")  # fmt: skip
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path),
              help="write everything to a new file")  # fmt: skip
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path),
              help="write a bar chart of the ratios to a new PNG file (extra `bench`)")  # fmt: skip
@click.option("--compare", type=click.Path(path_type=Path),
              help="file of an earlier --json: show new over old times")  # fmt: skip
@click.option("--quick", is_flag=True,
              help="few cases and rounds, nothing compiled first: no verdict")  # fmt: skip
def command(
    ops: tuple[str, ...],
    threads: str | None,
    json_file: Path | None,
    plot: Path | None,
    compare: Path | None,
    quick: bool,
) -> None:
    """Time FusionKit's operators and models beside the fastest that PyTorch has.

    Every result is checked against float64 first; an operator that fails gets no times and the
    exit code is 1. The process starts anew with fixed settings of glibc's allocator.
    """
    from fusionkit.bench.allocator import restart_with_settings
    from fusionkit.bench.plot import check_matplotlib, plot_ratios
    from fusionkit.bench.record import Report

    names = check_names(ops)
    counts = _thread_counts(threads)
    _check_new("--json", json_file)
    _check_new("--plot", plot)
    if json_file is not None and plot is not None and json_file.absolute() == plot.absolute():
        raise MisuseError(f"{plot}: --json and --plot name one file; give each its own")
    _refuse_forced_backend()
    if plot is not None:
        check_matplotlib()
    earlier = None if compare is None else Report.read(compare)
    restart_with_settings()

    from fusionkit.bench.compare import compare_records
    from fusionkit.bench.machine import differences
    from fusionkit.bench.session import add_suite, start_report
    from fusionkit.bench.suites import load_suite
    from fusionkit.bench.summary import summarize_classes
    from fusionkit.bench.tables import (
        case_table,
        change_table,
        class_table,
        left_out_lines,
        machine_lines,
    )
    from fusionkit.report.console import make_console

    console = make_console()
    if not console.is_terminal:
        console.width = 140
    report, ceilings = start_report(names, counts, quick=quick)
    for line in machine_lines(report.machine, report.ceilings):
        console.print(line, soft_wrap=True)
    for name in names:
        suite = load_suite(name)
        with console.status(name) as status:
            records = add_suite(report, suite, ceilings, quick=quick, on_start=status.update)
        if records:
            console.print(case_table(name, records))
            console.print(class_table(name, summarize_classes(records), quick=quick))
        for line in left_out_lines(records, suite.left_out):
            console.print(line, soft_wrap=True)
        if quick and suite.cases and not any(case.quick for case in suite.cases):
            console.print(f"{name} has no case that is short enough for --quick")
        if name in report.refused:
            click.echo(f"error: {name}: no times: {report.refused[name]}", err=True)
        # After every suite, so that an interrupted run leaves what it has.
        if json_file is not None:
            report.write(json_file)
    if any(record.noisy for record in report.records):
        console.print("~ others used the machine in every block of some contender")
    if earlier is not None:
        console.print(change_table(compare_records(earlier.records, report.records)))
        for line in differences(earlier.machine, report.machine):
            console.print(f"not the same machine: {line}", soft_wrap=True)
    if plot is not None:
        plot_ratios(report.records, plot)
    if report.refused:
        raise SystemExit(1)


def _thread_counts(text: str | None) -> tuple[int, ...]:
    from fusionkit.bench.machine import usable_cores

    cores = usable_cores()
    if text is None:
        return tuple(dict.fromkeys((1, cores)))
    counts = text.split(",")
    for count in counts:
        if not count.strip().isdecimal() or not 1 <= int(count) <= cores:
            raise click.BadParameter(
                f"{count!r} is not a number from 1 to {cores}, the cores here",
                param_hint="--threads",
            )
    return tuple(dict.fromkeys(map(int, counts)))


def _check_new(option: str, file: Path | None) -> None:
    """Refuse what could not be written after an hour of measuring."""
    if file is None:
        return
    folder = file.absolute().parent
    if not file.name or file.is_dir():
        raise MisuseError(f"{option} {str(file)!r}: names no file")
    if file.exists():
        raise MisuseError(f"{file}: exists already and is never overwritten; choose another name")
    if not folder.is_dir():
        raise MisuseError(f"{file}: the folder {folder} does not exist")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise MisuseError(f"{file}: cannot be written: {error.strerror or error}") from error
    if option == "--plot" and file.suffix.lower() != ".png":
        raise MisuseError(f"{file}: plots are PNG files; let the name end in .png")


def _refuse_forced_backend() -> None:
    if os.environ.get("FUSIONKIT_BACKEND"):
        raise MisuseError(
            "FUSIONKIT_BACKEND is set, and `fusionkit` is to be timed as it is chosen; unset it"
        )
