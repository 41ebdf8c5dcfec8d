"""Registers early fusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fusionkit import Method, hookimpl
from fusionkit_plugins.early_fusion.config import EarlyFusionConfig

if TYPE_CHECKING:
    from torch import nn

    from fusionkit import DataSpec

_SENSORS = {"encoder_kind": "sequence", "hidden_size": 64, "classifier_dropout": 0.3}


def _build(config: EarlyFusionConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.early_fusion.model import EarlyFusion

    return EarlyFusion(config, spec)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``early_fusion``."""
    register(
        Method(
            name="early_fusion",
            summary="features of all modalities side by side, one LSTM: a baseline",
            config=EarlyFusionConfig,
            build=_build,
            paper="none: the usual baseline, known as EF-LSTM",
            presets={"sensors": {"model": _SENSORS}},
        )
    )
