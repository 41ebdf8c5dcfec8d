"""Registers LMF."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.lmf.config import LMFConfig
from fusionkit_plugins.lmf.presets import PRESETS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec, ParameterGroup

_CITATION = """@inproceedings{liu2018efficient,
  title     = {Efficient Low-rank Multimodal Fusion With Modality-Specific Factors},
  author    = {Liu, Zhun and Shen, Ying and Lakshminarasimhan, Varun Bharadhwaj and
               Liang, Paul Pu and Zadeh, AmirAli Bagher and Morency, Louis-Philippe},
  booktitle = {ACL},
  pages     = {2247--2256},
  year      = {2018}
}"""


def _build(config: LMFConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.lmf.model import LMF

    return LMF(config, spec)


def _parameter_groups(model: nn.Module) -> Sequence[ParameterGroup]:
    from fusionkit_plugins.lmf.model import parameter_groups

    return parameter_groups(model)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.lmf.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``lmf``."""
    register(
        Method(
            name="lmf",
            summary="the tensor fusion at low rank: as many parameters more as modalities",
            config=LMFConfig,
            build=_build,
            paper="Efficient Low-rank Multimodal Fusion With Modality-Specific Factors "
            "(Liu, Shen, Lakshminarasimhan, Liang, Zadeh, Morency; ACL 2018; arXiv 1806.00064)",
            citation=_CITATION,
            parameter_groups=_parameter_groups,
            presets=PRESETS,
            convert_checkpoint=_convert,
        )
    )
