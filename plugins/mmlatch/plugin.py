"""Registers MMLatch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.mmlatch.config import MMLatchConfig
from fusionkit_plugins.mmlatch.presets import PRESETS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec

_CITATION = """@inproceedings{paraskevopoulos2022mmlatch,
  title     = {{MMLatch}: Bottom-Up Top-Down Fusion for Multimodal Sentiment Analysis},
  author    = {Paraskevopoulos, Georgios and Georgiou, Efthymios and Potamianos, Alexandros},
  booktitle = {ICASSP},
  pages     = {4573--4577},
  year      = {2022}
}"""


def _build(config: MMLatchConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.mmlatch.model import MMLatch

    return MMLatch(config, spec)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.mmlatch.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``mmlatch``."""
    register(
        Method(
            name="mmlatch",
            summary="top-down masks on the inputs, then attention over all pairs",
            config=MMLatchConfig,
            build=_build,
            paper="MMLatch: Bottom-Up Top-Down Fusion for Multimodal Sentiment Analysis "
            "(Paraskevopoulos, Georgiou, Potamianos; ICASSP 2022; arXiv 2201.09828)",
            citation=_CITATION,
            presets=PRESETS,
            ablations={"no masks": {"mask": None}},
            train_defaults=PRESETS["paper"]["train"],
            convert_checkpoint=_convert,
        )
    )
