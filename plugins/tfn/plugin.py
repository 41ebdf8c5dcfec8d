"""Registers TFN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.tfn.config import TFNConfig
from fusionkit_plugins.tfn.presets import PRESETS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec

_CITATION = """@inproceedings{zadeh2017tensor,
  title     = {Tensor Fusion Network for Multimodal Sentiment Analysis},
  author    = {Zadeh, Amir and Chen, Minghai and Poria, Soujanya and Cambria, Erik and
               Morency, Louis-Philippe},
  booktitle = {EMNLP},
  pages     = {1103--1114},
  year      = {2017}
}"""


def _build(config: TFNConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.tfn.model import TFN

    return TFN(config, spec)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.tfn.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``tfn``."""
    register(
        Method(
            name="tfn",
            summary="outer product of one vector a modality, each with a one before it",
            config=TFNConfig,
            build=_build,
            paper="Tensor Fusion Network for Multimodal Sentiment Analysis "
            "(Zadeh, Chen, Poria, Cambria, Morency; EMNLP 2017)",
            citation=_CITATION,
            presets=PRESETS,
            train_defaults=PRESETS["mosi"]["train"],
            convert_checkpoint=_convert,
        )
    )
