"""``fusionkit compare``: several methods, several seeds, one table."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fusionkit.cli.names import RegisteredName

if TYPE_CHECKING:
    from fusionkit.training.comparison import Comparison
    from fusionkit.training.loop import FitState
    from fusionkit.training.work import Work

Command = TypeVar("Command", bound=Callable[..., Any])

_OPTIONS = [
    click.option("--data", default="watch", show_default=True, type=RegisteredName("data set"),
                 help="data set of all: NAME or NAME:PATH"),
    click.option("--seeds", default="0-4", show_default=True, help="such as 0-4 or 0,1,7"),
    click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                 help="option of all methods, or train.KEY, data.KEY; repeatable"),
    click.option("--out", type=click.Path(path_type=Path),
                 help="folder; one that exists is continued  [default: runs/..., by the options]"),
    click.option("--jobs", default=1, show_default=True, type=click.IntRange(1),
                 help="runs at a time"),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N"),
    click.option("--metrics", default="default", show_default=True,
                 type=RegisteredName("metric set"), help="metric set to report"),
    click.option("--metric", help="the one to compare  [default: the set's first for the task]"),
    click.option("--nonfinite", type=click.Choice(["error", "zero"]),
                 help="NaN or infinite features: refuse, or set to 0 and say how many"),
    click.option("--json", "as_json", is_flag=True, help="print JSON, with the score of each seed"),
    click.option("--markdown", is_flag=True, help="print a Markdown table"),
]  # fmt: skip


def comparison_options(command: Command) -> Command:
    """The options that `compare` and `ablate` share."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command("compare")
@click.argument("methods", nargs=-1, required=True, metavar="METHOD[,OPTION=VALUE...]...",
                type=RegisteredName("method"))  # fmt: skip
@click.option("--recipe", default="default", show_default=True,
              help="how all methods are trained (docs/compare.md)")  # fmt: skip
@click.option("--baseline", metavar="METHOD[,OPTION=VALUE...]",
              help="compare with  [default: the best single modality by validation]")  # fmt: skip
@comparison_options
def command(methods: tuple[str, ...], baseline: str | None, **options: Any) -> None:
    """Train every METHOD with every seed on the same data; compare their test scores.

    A single modality is written unimodal:NAME. Interrupted, the same command continues.
    """
    from fusionkit import experiments

    show_comparison(
        lambda common: experiments.compare(methods, baseline=baseline, **common), options
    )


def show_comparison(run: Callable[[dict[str, Any]], Comparison], options: dict[str, Any]) -> None:
    """Run a comparison with the shared options and print its table."""
    from fusionkit.errors import FusionKitError
    from fusionkit.report.comparison_table import comparison_markdown, comparison_table
    from fusionkit.report.console import make_console
    from fusionkit.training.settings import parse_overrides

    as_json, markdown = options.pop("as_json"), options.pop("markdown")
    if as_json and markdown:
        raise click.UsageError("--json and --markdown exclude each other")
    sections = parse_overrides(options.pop("settings"))
    nonfinite = options.pop("nonfinite")
    if nonfinite is not None:
        sections["data"]["nonfinite"] = nonfinite
    progress = _Lines()
    common = {
        **options,
        "model": sections["model"],
        "train": sections["train"],
        "data_options": sections["data"],
        "tell": progress.tell,
        "callbacks": [progress],
    }
    try:
        comparison = run(common)
    except KeyboardInterrupt:
        progress.clear()
        click.echo("\ninterrupted; the same command continues", err=True)
        raise SystemExit(1) from None
    except (FusionKitError, OSError):
        progress.clear()
        if progress.started:
            click.echo("finished runs are kept; the same command continues", err=True)
        raise
    if as_json:
        click.echo(json.dumps(comparison.to_json(), indent=1))
    elif markdown:
        click.echo(comparison_markdown(comparison), nl=False)
    else:
        console = make_console()
        if not console.is_terminal:
            console.width = 140
        console.print(comparison_table(comparison))
    if comparison.failures:
        raise SystemExit(1)


class _Lines:
    """One line a run on standard error; on a terminal, the epoch of the run that is on its way."""

    def __init__(self) -> None:
        self.started = False
        self.name = ""
        self.terminal = sys.stderr.isatty()

    def tell(self, line: str) -> None:
        self.clear()
        self.started = True
        click.echo(line, err=True)

    def clear(self) -> None:
        if self.terminal:
            click.echo("\r\x1b[K", nl=False, err=True)

    def on_run_start(self, dataset: object, folder: Path, work: Work) -> None:
        self.started, self.name = True, f"{folder.parent.name}, seed {work.seed}"

    def on_epoch_end(self, state: FitState) -> None:
        if self.terminal:
            epoch = f"epoch {state.progress.epoch}/{state.total_epochs}"
            click.echo(f"\r\x1b[K{self.name}: {epoch}", nl=False, err=True)
