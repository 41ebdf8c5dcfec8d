"""``fusionkit list``: everything that is registered, and which distribution it comes from."""

from __future__ import annotations

from typing import get_args

import click
from rich.table import Table

from fusionkit.registry import registry
from fusionkit.registry.manager import Kind
from fusionkit.report.console import make_console

_PLURALS = {
    "methods": "method",
    "datasets": "data set",
    "metrics": "metric set",
    "backends": "backend",
    "callbacks": "callback",
}


@click.command("list")
@click.argument("what", type=click.Choice([*_PLURALS, "all"]), default="all")
def command(what: str) -> None:
    """List methods, data sets, metric sets, backends and callbacks, or one kind of them."""
    console = make_console()
    kinds = [_PLURALS[what]] if what != "all" else list(get_args(Kind))
    for kind in kinds:
        rows = _backends() if kind == "backend" else _registered(kind)
        if not rows and what == "all":
            continue
        table = Table("name", "what it is", "from", title=f"{kind}s", title_justify="left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in [*registry().conflicts(), *map(str, registry().broken)]:
        click.echo(f"warning: {line}", err=True)


def _registered(kind: str) -> list[tuple[str, str, str]]:
    entries = registry().entries(kind)  # type: ignore[arg-type]
    return [(name, e.value.summary, e.distribution) for name, e in entries.items()]


def _backends() -> list[tuple[str, str, str]]:
    from fusionkit.ops import available_backends

    plugins = registry().entries("backend")
    own = _own_distribution()
    return [
        (
            f"{op}: {b.name}",
            f"not available: {b.unavailable}" if b.unavailable else b.summary,
            plugins[f"{op}:{b.name}"].distribution if f"{op}:{b.name}" in plugins else own,
        )
        for op, backends in available_backends().items()
        for b in backends
    ]


def _own_distribution() -> str:
    from fusionkit._version import __version__

    return f"fusionkit-torch {__version__}"
