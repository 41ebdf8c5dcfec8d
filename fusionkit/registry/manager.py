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
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import pluggy

from fusionkit.errors import PluginError, UnknownNameError
from fusionkit.registry import hookspecs

Kind = Literal["method", "data set", "metric set", "backend", "callback"]

_HOOKS: dict[Kind, str] = {
    "method": "fusionkit_register_methods",
    "data set": "fusionkit_register_datasets",
    "metric set": "fusionkit_register_metrics",
    "backend": "fusionkit_register_backends",
    "callback": "fusionkit_register_callbacks",
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
    error: Exception

    def __str__(self) -> str:
        return (
            f"plugin {self.name!r} of {self.distribution} failed: "
            f"{type(self.error).__name__}: {self.error}"
        )


@dataclass(frozen=True)
class Registry:
    """Everything that was found; see `registry`."""

    plugins: pluggy.PluginManager
    tables: dict[Kind, dict[str, list[Registered]]]
    broken: list[BrokenPlugin]

    def names(self, kind: Kind) -> list[str]:
        """All registered names of a kind, sorted."""
        return sorted(self.tables[kind])

    def entries(self, kind: Kind) -> dict[str, Registered]:
        """Name -> what was registered; the first of a conflict (`conflicts` lists them)."""
        return {name: self.tables[kind][name][0] for name in self.names(kind)}

    def conflicts(self) -> list[str]:
        """One line for every name that two distributions claim."""
        return [
            _conflict(kind, name, found)
            for kind, table in self.tables.items()
            for name, found in sorted(table.items())
            if len(found) > 1
        ]

    def get(self, kind: Kind, name: str) -> Any:
        """What is registered under a name.

        Raises:
            UnknownNameError: nothing is. PluginError: two distributions claim the name, or the
                plugin of that name could not be imported.
        """
        found = self.tables[kind].get(name, [])
        if len(found) > 1:
            raise PluginError(_conflict(kind, name, found) + "; uninstall one of them")
        if found:
            return found[0].value
        for plugin in self.broken:
            if plugin.name == name:
                raise PluginError(str(plugin)) from plugin.error
        hint = "".join(f"\n  note: {plugin}" for plugin in self.broken)
        raise UnknownNameError(kind, name, self.tables[kind], hint)


@cache
def registry() -> Registry:
    """Load every plugin once and collect what the hooks register."""
    plugins = pluggy.PluginManager("fusionkit")
    plugins.add_hookspecs(hookspecs)
    if os.environ.get("FUSIONKIT_TRACE_HOOKS"):
        plugins.trace.root.setwriter(sys.stderr.write)
        plugins.enable_tracing()
    origins: dict[str, tuple[str, str]] = {}
    broken: list[BrokenPlugin] = []
    for entry_point in _entry_points():
        distribution = _distribution(entry_point)
        try:
            plugins.register(entry_point.load(), name=f"{entry_point.name} of {distribution}")
        except Exception as error:
            broken.append(BrokenPlugin(entry_point.name, distribution, error))
        else:
            origins[f"{entry_point.name} of {distribution}"] = (entry_point.name, distribution)
    tables: dict[Kind, dict[str, list[Registered]]] = {kind: {} for kind in _HOOKS}
    for full_name, (name, distribution) in origins.items():
        others = [p for n, p in plugins.list_name_plugin() if n != full_name]
        for kind, hook in _HOOKS.items():
            collect = _collector(tables[kind], kind, distribution)
            try:
                plugins.subset_hook_caller(hook, others)(register=collect)
            except Exception as error:
                broken.append(BrokenPlugin(name, distribution, error))
    return Registry(plugins, tables, broken)


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    found = {(e.name, e.value): e for e in importlib.metadata.entry_points(group="fusionkit")}
    wanted = os.environ.get("FUSIONKIT_PLUGINS")
    chosen = None if wanted is None else {name.strip() for name in wanted.split(",")}
    return [e for (name, _), e in sorted(found.items()) if chosen is None or name in chosen]


def _distribution(entry_point: importlib.metadata.EntryPoint) -> str:
    dist = entry_point.dist
    return "an unknown distribution" if dist is None else f"{dist.name} {dist.version}"


def _collector(
    table: dict[str, list[Registered]], kind: Kind, distribution: str
) -> Callable[[Any], None]:
    def register(value: Any) -> None:
        if kind == "backend":
            from fusionkit.ops.backends import register_backend

            register_backend(value)
            table.setdefault(f"{value.op}:{value.name}", []).append(Registered(value, distribution))
            return
        table.setdefault(value.name, []).append(Registered(value, distribution))

    return register


def _conflict(kind: Kind, name: str, found: list[Registered]) -> str:
    return f"{kind} {name!r} is registered by " + " and by ".join(f.distribution for f in found)
