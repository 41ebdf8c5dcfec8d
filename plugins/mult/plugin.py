"""Registers MulT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.mult.config import MulTConfig
from fusionkit_plugins.mult.presets import PRESETS, PROTOCOL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec

_CITATION = """@inproceedings{tsai2019multimodal,
  title     = {Multimodal Transformer for Unaligned Multimodal Language Sequences},
  author    = {Tsai, Yao-Hung Hubert and Bai, Shaojie and Liang, Paul Pu and Kolter, J. Zico and
               Morency, Louis-Philippe and Salakhutdinov, Ruslan},
  booktitle = {ACL},
  year      = {2019}
}"""


def _build(config: MulTConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.mult.model import MulT

    return MulT(config, spec)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.mult.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``mult``."""
    register(
        Method(
            name="mult",
            summary="transformers from every modality to every other one, then a memory each",
            config=MulTConfig,
            build=_build,
            paper="Multimodal Transformer for Unaligned Multimodal Language Sequences "
            "(Tsai, Bai, Liang, Kolter, Morency, Salakhutdinov; ACL 2019)",
            citation=_CITATION,
            presets=PRESETS,
            train_defaults=PROTOCOL,
            ablations={"one layer": {"num_layers": 1, "memory_layers": 1}},
            convert_checkpoint=_convert,
        )
    )
