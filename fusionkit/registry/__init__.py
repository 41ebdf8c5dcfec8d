"""Plugins: the hooks they implement, what they register, and look-up by name."""

from fusionkit.registry.hookspecs import hookimpl
from fusionkit.registry.manager import registry
from fusionkit.registry.method import Callback, ConvertedCheckpoint, Method, MethodConfig

__all__ = ["Callback", "ConvertedCheckpoint", "Method", "MethodConfig", "hookimpl", "registry"]
