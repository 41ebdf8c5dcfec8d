"""Registers MAG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, ParameterGroup, hookimpl
from fusionkit_plugins.mag.config import MAGConfig
from fusionkit_plugins.mag.presets import PRESETS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec

_CITATION = """@inproceedings{rahman2020integrating,
  title     = {Integrating Multimodal Information in Large Pretrained Transformers},
  author    = {Rahman, Wasifur and Hasan, Md Kamrul and Lee, Sangwu and Zadeh, Amir and
               Mao, Chengfeng and Morency, Louis-Philippe and Hoque, Ehsan},
  booktitle = {ACL},
  pages     = {2359--2369},
  year      = {2020}
}"""


def _build(config: MAGConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.mag.bert import GatedBert
    from fusionkit_plugins.mag.model import MAG

    return GatedBert(config, spec) if config.has_bert else MAG(config, spec)


def _parameter_groups(model: nn.Module) -> Sequence[ParameterGroup]:
    from fusionkit_plugins.mag.parameters import parameter_groups

    return parameter_groups(model)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.mag.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``mag``."""
    register(
        Method(
            name="mag",
            summary="the other modalities shift the main one at every step, within bounds",
            config=MAGConfig,
            build=_build,
            paper="Integrating Multimodal Information in Large Pretrained Transformers "
            "(Rahman, Hasan, Lee, Zadeh, Mao, Morency, Hoque; ACL 2020; arXiv 1908.05787)",
            citation=_CITATION,
            parameter_groups=_parameter_groups,
            presets=PRESETS,
            train_defaults=PRESETS["released"]["train"],
            convert_checkpoint=_convert,
        )
    )
