"""``fusionkit convert-checkpoint``: an official state dictionary as a run that predicts."""

from __future__ import annotations

from pathlib import Path

import click

from fusionkit.cli.names import RegisteredName


@click.command("convert-checkpoint")
@click.argument("method", type=RegisteredName("method"))
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
              help="option of the method that the weights do not tell; repeatable")  # fmt: skip
def command(method: str, checkpoint: Path, out: Path, settings: tuple[str, ...]) -> None:
    """Convert the official CHECKPOINT of METHOD (a .pt state dictionary) into the run folder OUT.

    The file is read without running code from it.
    """
    from fusionkit import api
    from fusionkit.errors import MisuseError
    from fusionkit.training.settings import parse_overrides

    sections = parse_overrides(settings)
    if sections["train"] or sections["data"]:
        raise MisuseError("--set: converted weights have no training or data options")
    folder = api.convert_checkpoint(method, checkpoint, out, **sections["model"])
    click.echo(f"converted; predict with: fusionkit predict {folder} SAMPLES.npz")
