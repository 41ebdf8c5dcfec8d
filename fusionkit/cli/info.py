"""``fusionkit info``: what a method, data set or metric set is, and the options that it takes."""

from __future__ import annotations

import click
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from fusionkit.cli.names import RegisteredName
from fusionkit.errors import UnknownNameError
from fusionkit.registry import Method, registry


@click.command("info")
@click.argument("name", type=RegisteredName("method"))
def command(name: str) -> None:
    """Show a method (paper, citation, options), a data set, a metric set, or `train`."""
    console = Console()
    found = registry()
    if name == "train":
        from fusionkit.training.config import TrainConfig

        console.print(options_table("Training options (--set train.KEY=VALUE)", TrainConfig))
    elif name in found.names("data set"):
        source = found.get("data set", name)
        console.print(f"[bold]{name}[/]: {source.summary}\n{source.citation}\n", highlight=False)
        console.print(options_table("Options (--set data.KEY=VALUE)", source.config))
    elif name in found.names("metric set"):
        metrics = found.get("metric set", name)
        console.print(f"[bold]{name}[/]: {metrics.summary}", highlight=False)
        console.print(f"tasks: {', '.join(metrics.compute)}", highlight=False)
        for metric, higher in metrics.higher_is_better.items():
            console.print(f"  {metric} ({'higher' if higher else 'lower'} is better)")
    else:
        _method(console, name)


def options_table(title: str, config: type[BaseModel]) -> Table:
    """Every field with type, default and help."""
    table = Table("option", "type", "default", "meaning", title=title, title_justify="left")
    for key, field in config.model_fields.items():
        default = "required" if field.is_required() else repr(field.get_default(True, {}))
        table.add_row(key, _type_name(field.annotation), default, field.description or "")
    return table


def _method(console: Console, name: str) -> None:
    found = registry()
    if name not in found.names("method"):
        known = [n for kind in ("method", "data set", "metric set") for n in found.names(kind)]  # type: ignore[arg-type]
        if not any(plugin.name == name for plugin in found.broken):
            raise UnknownNameError("name", name, [*known, "train"])
    method: Method = found.get("method", name)
    most = method.max_modalities or "any number of"
    console.print(f"[bold]{name}[/]: {method.summary}", highlight=False)
    console.print(f"paper: {method.paper}", highlight=False, markup=False)
    console.print(f"from: {found.entries('method')[name].distribution}", highlight=False)
    console.print(
        f"takes: {method.min_modalities} to {most} modalities; "
        f"tasks {', '.join(sorted(method.tasks))}",
        highlight=False,
    )
    if method.presets:
        console.print(f"presets: {', '.join(method.presets)}", highlight=False)
    console.print(options_table("Options (--set KEY=VALUE)", method.config))
    if method.citation:
        console.print(method.citation, highlight=False, markup=False)


def _type_name(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.", "").replace("NoneType", "None")
