"""``fusionkit evaluate``: score a run's selected weights again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fusionkit.cli.names import RegisteredName


@click.command("evaluate")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--split", default="test", show_default=True,
              type=click.Choice(["train", "validation", "test"]), help="which samples")  # fmt: skip
@click.option("--metrics", type=RegisteredName("metric set"),
              help="metric set  [default: the run's]")  # fmt: skip
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N")
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def command(run: Path, split: Any, metrics: str | None, device: str, as_json: bool) -> None:
    """Score the weights that RUN selected, on its own data."""
    from fusionkit import api
    from fusionkit.report.console import make_console
    from fusionkit.report.results_table import scores_table

    scores = api.evaluate(run, split=split, metrics=metrics, device=device)
    if as_json:
        click.echo(json.dumps({name: s.to_json() for name, s in scores.items()}))
    else:
        make_console().print(scores_table(f"{run}: {split}", scores))
