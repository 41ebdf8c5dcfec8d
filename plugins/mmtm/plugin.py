"""Registers MMTM."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fusionkit import Method, hookimpl
from fusionkit_plugins.mmtm.config import MMTMConfig
from fusionkit_plugins.mmtm.presets import PRESETS

if TYPE_CHECKING:
    from torch import nn

    from fusionkit import DataSpec

_CITATION = """@inproceedings{vaezijoze2020mmtm,
  title     = {{MMTM}: Multimodal Transfer Module for {CNN} Fusion},
  author    = {Vaezi Joze, Hamid Reza and Shaban, Amirreza and Iuzzolino, Michael L. and
               Koishida, Kazuhito},
  booktitle = {CVPR},
  year      = {2020}
}"""


def _build(config: MMTMConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.mmtm.model import MMTM

    return MMTM(config, spec)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``mmtm``."""
    register(
        Method(
            name="mmtm",
            summary="squeeze-and-excitation gates between the stages of each modality",
            config=MMTMConfig,
            build=_build,
            paper="MMTM: Multimodal Transfer Module for CNN Fusion (Vaezi Joze, Shaban, Iuzzolino, "
            "Koishida; CVPR 2020)",
            citation=_CITATION,
            presets=PRESETS,
            ablations={"no-fusion": {"fusion": False}},
        )
    )
