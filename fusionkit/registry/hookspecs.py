"""The hooks a plugin can implement; each is given a callback that takes what the plugin adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

hookspec = pluggy.HookspecMarker("fusionkit")
hookimpl = pluggy.HookimplMarker("fusionkit")


@hookspec
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Call ``register(Method(...))`` for every fusion method."""


@hookspec
def fusionkit_register_datasets(register: Callable[[Any], None]) -> None:
    """Call ``register(DataSource(...))`` for every data set or file format."""


@hookspec
def fusionkit_register_metrics(register: Callable[[Any], None]) -> None:
    """Call ``register(MetricSet(...))`` for every named set of metrics."""


@hookspec
def fusionkit_register_backends(register: Callable[[Any], None]) -> None:
    """Call ``register(Backend(...))`` for every implementation of an operator."""


@hookspec
def fusionkit_register_callbacks(register: Callable[[Any], None]) -> None:
    """Call ``register(Callback(...))`` for every training callback."""


@hookspec
def fusionkit_register_commands(cli: click.Group) -> None:
    """Add commands to the command line with ``@cli.command()``."""
