"""Registers the single-modality method."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fusionkit import Method, hookimpl
from fusionkit_plugins.unimodal.config import UnimodalConfig

if TYPE_CHECKING:
    from torch import nn

    from fusionkit import DataSpec

# Ours: the encoder of late_fusion.
_SENSORS = {"encoder_kind": "sequence", "hidden_size": 64, "classifier_dropout": 0.3}


def _build(config: UnimodalConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.unimodal.model import Unimodal

    return Unimodal(config, spec)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``unimodal``."""
    register(
        Method(
            name="unimodal",
            summary="one modality alone (unimodal:NAME): what a fusion is measured against",
            config=UnimodalConfig,
            build=_build,
            paper="none: a baseline of FusionKit's own",
            min_modalities=1,
            presets={"sensors": {"model": _SENSORS}},
        )
    )
