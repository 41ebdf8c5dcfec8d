"""Finds plugins through the entry-point group ``fusionkit`` and looks things up by name.

One broken plugin never takes the others down: it is remembered by name, and only using what it
would have given raises. ``FUSIONKIT_PLUGINS=a,b`` loads exactly the named entry points;
``FUSIONKIT_TRACE_HOOKS=1`` prints every hook call.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from fusionkit.errors import PluginError, UnknownNameError
from fusionkit.registry import hookspecs

if TYPE_CHECKING:
    import click

Kind = Literal["method", "data set", "metric set", "backend", "callback"]

_HOOKS: dict[Kind, str] = {
    "method": "fusionkit_register_methods",
    "data set": "fusionkit_register_datasets",
    "metric set": "fusionkit_register_metrics",
    "backend": "fusionkit_register_backends",
    "callback": "fusionkit_register_callbacks",
}


_FIELDS: dict[Kind, tuple[str, ...]] = {
    "method": ("name", "summary", "config", "build", "create", "presets"),
    "data set": ("name", "summary", "config", "load", "citation"),
    "metric set": ("name", "summary", "compute", "higher_is_better"),
    "backend": ("op", "name", "run", "not_supported_reasons", "priority"),
    "callback": ("name", "summary", "build"),
}


@dataclass(frozen=True)
class Registered:
    """Something a plugin registered, and the distribution it came from ("name version")."""

    value: Any
    distribution: str


@dataclass(frozen=True)
class BrokenPlugin:
    """An entry point that could not be loaded, or a hook that raised."""

    name: str
    distribution: str
    error: BaseException

    def __str__(self) -> str:
        return (
            f"plugin {self.name!r} of {self.distribution} failed: "
            f"{type(self.error).__name__}: {self.error}"
        )


@dataclass(frozen=True)
class Registry:
    """What was found; see `registry`. A kind's hook is called when that kind is first asked for.

    Args:
        plugins: pluggy's manager. origins: plugin name there -> (entry point, distribution).
        broken: entry points that could not be loaded, and hooks that raised.
    """

    plugins: pluggy.PluginManager
    origins: dict[str, tuple[str, str]]
    broken: list[BrokenPlugin]
    _tables: dict[Kind, dict[str, list[Registered]]] = field(default_factory=dict)

    def names(self, kind: Kind) -> list[str]:
        """All registered names of a kind, sorted."""
        return sorted(self._table(kind))

    def entries(self, kind: Kind) -> dict[str, Registered]:
        """Name -> what was registered; the first of a conflict (`conflicts` lists them)."""
        return {name: found[0] for name, found in sorted(self._table(kind).items())}

    def conflicts(self) -> list[str]:
        """One line for every name that two distributions claim."""
        return [
            _conflict(kind, name, found)
            for kind in _HOOKS
            for name, found in sorted(self._table(kind).items())
            if len(found) > 1
        ]

    def get(self, kind: Kind, name: str) -> Any:
        """What is registered under a name.

        Raises:
            UnknownNameError: nothing is. PluginError: two distributions claim the name, or the
                plugin of that name could not be imported.
        """
        table = self._table(kind)
        found = table.get(name, [])
        if len(found) > 1:
            raise PluginError(_conflict(kind, name, found) + "; uninstall one of them")
        if found:
            return found[0].value
        for plugin in self.broken:
            if plugin.name == name:
                raise PluginError(str(plugin)) from plugin.error
        hint = "".join(f"\n  note: {plugin}" for plugin in self.broken)
        raise UnknownNameError(kind, name, table, hint)

    def add_commands(self, cli: click.Group) -> None:
        """Let every plugin add its commands."""
        for full_name in self.origins:
            self._call(full_name, "fusionkit_register_commands", cli=cli)

    def _call(self, full_name: str, hook: str, **arguments: Any) -> None:
        """Call one plugin's hook; what it raises is remembered in ``broken``."""
        others = [p for n, p in self.plugins.list_name_plugin() if n != full_name]
        try:
            self.plugins.subset_hook_caller(hook, others)(**arguments)
        except (Exception, SystemExit) as error:
            self.broken.append(BrokenPlugin(*self.origins[full_name], error))

    def _table(self, kind: Kind) -> dict[str, list[Registered]]:
        if kind not in self._tables:
            table = self._tables[kind] = {}
            for full_name, (_, distribution) in self.origins.items():
                self._call(full_name, _HOOKS[kind], register=_collector(table, kind, distribution))
        return self._tables[kind]


@cache
def registry() -> Registry:
    """Import every plugin, once; what they register is collected on demand."""
    plugins = pluggy.PluginManager("fusionkit")
    plugins.add_hookspecs(hookspecs)
    if os.environ.get("FUSIONKIT_TRACE_HOOKS"):
        plugins.trace.root.setwriter(sys.stderr.write)
        plugins.enable_tracing()
    origins: dict[str, tuple[str, str]] = {}
    broken: list[BrokenPlugin] = []
    for entry_point in _entry_points():
        distribution = _distribution(entry_point)
        full_name = f"{entry_point.name} of {distribution}"
        try:
            plugins.register(entry_point.load(), name=full_name)
            plugins.check_pending()
        except (Exception, SystemExit) as error:
            if plugins.has_plugin(full_name):
                plugins.unregister(name=full_name)
            broken.append(BrokenPlugin(entry_point.name, distribution, error))
        else:
            origins[full_name] = (entry_point.name, distribution)
    return Registry(plugins, origins, broken)


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    found = {(e.name, e.value): e for e in importlib.metadata.entry_points(group="fusionkit")}
    wanted = os.environ.get("FUSIONKIT_PLUGINS")
    if wanted is None:
        return [e for _, e in sorted(found.items())]
    chosen = {name.strip() for name in wanted.split(",")}
    names = {name for name, _ in found}
    for name in chosen - names:
        raise UnknownNameError("plugin in FUSIONKIT_PLUGINS", name, names)
    return [e for (name, _), e in sorted(found.items()) if name in chosen]


def _distribution(entry_point: importlib.metadata.EntryPoint) -> str:
    dist = entry_point.dist
    return "an unknown distribution" if dist is None else f"{dist.name} {dist.version}"


def _collector(
    table: dict[str, list[Registered]], kind: Kind, distribution: str
) -> Callable[[Any], None]:
    def register(value: Any) -> None:
        missing = [field for field in _FIELDS[kind] if not hasattr(value, field)]
        if missing:
            raise TypeError(f"{value!r} is no {kind}: it has no {missing[0]!r}")
        if kind == "backend":
            from fusionkit.ops.backends import register_backend

            register_backend(value)
            table.setdefault(f"{value.op}:{value.name}", []).append(Registered(value, distribution))
            return
        table.setdefault(value.name, []).append(Registered(value, distribution))

    return register


def _conflict(kind: Kind, name: str, found: list[Registered]) -> str:
    return f"{kind} {name!r} is registered by " + " and by ".join(f.distribution for f in found)
