"""Plugins: the hooks they implement, what they register, and look-up by name."""

from fusionkit.registry.hookspecs import hookimpl
from fusionkit.registry.manager import registry
from fusionkit.registry.method import (
    AuxiliaryObjective,
    Callback,
    ConvertedCheckpoint,
    Method,
    MethodConfig,
    ParameterGroup,
    TrainingMemory,
)

__all__ = [
    "AuxiliaryObjective",
    "Callback",
    "ConvertedCheckpoint",
    "Method",
    "MethodConfig",
    "ParameterGroup",
    "TrainingMemory",
    "hookimpl",
    "registry",
]
