"""``fusionkit info``: what a method, data set or metric set is, and the options that it takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from fusionkit.cli.names import RegisteredName
from fusionkit.data.source import DataSource
from fusionkit.errors import UnknownNameError
from fusionkit.registry import Method, registry
from fusionkit.registry.manager import Kind
from fusionkit.report.console import make_console
from fusionkit.training.config import TrainConfig

if TYPE_CHECKING:
    from fusionkit.evaluation.metric_set import MetricSet


@click.command("info")
@click.argument("name", type=RegisteredName("method", "data set", "metric set"))
def command(name: str) -> None:
    """Show a method (paper, citation, options), a data set, a metric set, or `train`."""
    console = make_console()
    shown = False
    for kind, show in _KINDS.items():
        if name in registry().names(kind):
            show(console, registry().get(kind, name))
            shown = True
    if name == "train":
        console.print(options_table("Training options (--set train.KEY=VALUE)", TrainConfig))
    elif not shown:
        if any(plugin.name == name for plugin in registry().broken):
            registry().get("method", name)
        raise UnknownNameError("name", name, {n for k in _KINDS for n in registry().names(k)})


def options_table(title: str, config: type[BaseModel]) -> Table:
    """Every field with type, default and help."""
    table = Table(title=title, title_justify="left")
    for name in ("option", "type", "default", "meaning"):
        # Option names are copied into commands: they stay in one piece.
        table.add_column(name, overflow="fold", no_wrap=name == "option")
    for key, field in config.model_fields.items():
        default = (
            "required"
            if field.is_required()
            else repr(field.get_default(call_default_factory=True))
        )
        table.add_row(key, _type_name(field.annotation), default, field.description or "")
    return table


def _method(console: Console, method: Method) -> None:
    most = method.max_modalities or "any number of"
    _lines(
        console,
        f"method {method.name}: {method.summary}",
        f"paper: {method.paper}",
        f"from: {registry().entries('method')[method.name].distribution}",
        f"takes: {method.min_modalities} to {most} modalities; "
        f"tasks {', '.join(sorted(method.tasks))}",
        *([f"presets: {', '.join(method.presets)}"] if method.presets else []),
    )
    console.print(options_table("Options (--set KEY=VALUE)", method.config))
    _lines(console, method.citation)


def _data(console: Console, source: DataSource) -> None:
    _lines(console, f"data set {source.name}: {source.summary}", source.citation)
    console.print(options_table("Options (--set data.KEY=VALUE)", source.config))


def _metrics(console: Console, metrics: MetricSet) -> None:
    _lines(
        console,
        f"metric set {metrics.name}: {metrics.summary}",
        f"tasks: {', '.join(metrics.compute)}",
        *(
            f"  {metric} ({'higher' if higher else 'lower'} is better)"
            for metric, higher in metrics.higher_is_better.items()
        ),
    )


_KINDS: dict[Kind, Callable[[Console, Any], None]] = {
    "method": _method,
    "data set": _data,
    "metric set": _metrics,
}


def _lines(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _type_name(annotation: object) -> str:
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return text.replace("typing.", "").replace("NoneType", "None")
