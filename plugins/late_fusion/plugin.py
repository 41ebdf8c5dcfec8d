"""Registers late fusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fusionkit import Method, hookimpl
from fusionkit_plugins.late_fusion.config import LateFusionConfig

if TYPE_CHECKING:
    from torch import nn

    from fusionkit import DataSpec


def _build(config: LateFusionConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.late_fusion.model import LateFusion

    return LateFusion(config, spec)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``late_fusion``."""
    register(
        Method(
            name="late_fusion",
            summary="convolution and BiLSTM a modality, their vectors concatenated: a baseline",
            config=LateFusionConfig,
            build=_build,
            paper="none: a baseline of FusionKit's own",
            presets={"sensors": {"model": {"hidden_size": 64, "classifier_dropout": 0.3}}},
        )
    )
