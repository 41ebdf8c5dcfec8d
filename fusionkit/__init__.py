"""FusionKit: plugin-based fusion of sequences of several modalities.

Names are loaded on first use, so that ``import fusionkit`` does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fusionkit._version import __version__

if TYPE_CHECKING:
    from fusionkit.api import (
        create,
        evaluate,
        list_datasets,
        list_methods,
        list_metrics,
        load_data,
        predict,
        train,
    )
    from fusionkit.data.batch import MultimodalBatch
    from fusionkit.data.dataset import MultimodalDataset
    from fusionkit.data.source import DataConfig, DataSource
    from fusionkit.data.spec import DataSpec
    from fusionkit.data.store import SequenceStore
    from fusionkit.errors import CheckpointError, ConfigError, DataError, FusionKitError
    from fusionkit.evaluation.metric_set import MetricSet
    from fusionkit.experiments import ablate, compare
    from fusionkit.ops.backends import Backend
    from fusionkit.registry.hookspecs import hookimpl
    from fusionkit.registry.method import (
        AuxiliaryObjective,
        Callback,
        ConvertedCheckpoint,
        Method,
        MethodConfig,
        ParameterGroup,
        TrainingMemory,
    )

_HOMES = {
    "fusionkit.api": (
        "create evaluate list_datasets list_methods list_metrics load_data predict train"
    ),
    "fusionkit.data.batch": "MultimodalBatch",
    "fusionkit.data.dataset": "MultimodalDataset",
    "fusionkit.data.source": "DataConfig DataSource",
    "fusionkit.data.spec": "DataSpec",
    "fusionkit.data.store": "SequenceStore",
    "fusionkit.errors": "CheckpointError ConfigError DataError FusionKitError",
    "fusionkit.evaluation.metric_set": "MetricSet",
    "fusionkit.ops.backends": "Backend",
    "fusionkit.experiments": "ablate compare",
    "fusionkit.registry.hookspecs": "hookimpl",
    "fusionkit.registry.method": (
        "AuxiliaryObjective Callback ConvertedCheckpoint Method MethodConfig ParameterGroup "
        "TrainingMemory"
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}
_SUBPACKAGES = ("data", "evaluation", "nn", "ops", "registry", "testing", "training")

__all__ = [
    "AuxiliaryObjective",
    "Backend",
    "Callback",
    "CheckpointError",
    "ConfigError",
    "ConvertedCheckpoint",
    "DataConfig",
    "DataError",
    "DataSource",
    "DataSpec",
    "FusionKitError",
    "Method",
    "MethodConfig",
    "MetricSet",
    "MultimodalBatch",
    "MultimodalDataset",
    "ParameterGroup",
    "SequenceStore",
    "TrainingMemory",
    "__version__",
    "ablate",
    "compare",
    "create",
    "evaluate",
    "hookimpl",
    "list_datasets",
    "list_methods",
    "list_metrics",
    "load_data",
    "predict",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        return getattr(importlib.import_module(_HOME_OF[name]), name)
    if name in _SUBPACKAGES:
        return importlib.import_module(f"fusionkit.{name}")
    raise AttributeError(f"module 'fusionkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_SUBPACKAGES])
