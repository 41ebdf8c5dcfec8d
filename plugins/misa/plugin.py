"""Registers MISA."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.misa.config import MISAConfig
from fusionkit_plugins.misa.presets import ABLATIONS, PRESETS, PROTOCOL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec, MultimodalBatch

_CITATION = """@inproceedings{hazarika2020misa,
  title     = {{MISA}: Modality-Invariant and -Specific Representations for Multimodal Sentiment
               Analysis},
  author    = {Hazarika, Devamanyu and Zimmermann, Roger and Poria, Soujanya},
  booktitle = {ACM Multimedia},
  pages     = {1122--1131},
  year      = {2020}
}"""


def _build(config: MISAConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.misa.model import MISA

    return MISA(config, spec)


def _training_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    from fusionkit_plugins.misa.objective import training_step

    return training_step(model, batch, task_loss)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.misa.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``misa``."""
    register(
        Method(
            name="misa",
            summary="shared and private vectors of every modality, fused by a transformer",
            config=MISAConfig,
            build=_build,
            paper="MISA: Modality-Invariant and -Specific Representations for Multimodal Sentiment "
            "Analysis (Hazarika, Zimmermann, Poria; ACM Multimedia 2020)",
            citation=_CITATION,
            training_step=_training_step,
            train_defaults=PROTOCOL,
            presets=PRESETS,
            ablations=ABLATIONS,
            convert_checkpoint=_convert,
        )
    )
