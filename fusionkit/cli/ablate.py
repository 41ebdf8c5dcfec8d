"""``fusionkit ablate``: a method with and without each of its parts."""

from __future__ import annotations

from typing import Any

import click

from fusionkit.cli.compare import comparison_options, show_comparison
from fusionkit.cli.names import RegisteredName


@click.command("ablate")
@click.argument("method", metavar="METHOD[,OPTION=VALUE...]", type=RegisteredName("method"))
@click.option("--recipe", help="how all variants are trained  [default: as the method prefers]")
@comparison_options
def command(method: str, **options: Any) -> None:
    """Switch off one part of METHOD at a time, and compare each variant with the whole.

    preset=NAME among the options takes a preset of the method.
    """
    from fusionkit import experiments

    show_comparison(lambda common: experiments.ablate(method, **common), options)
