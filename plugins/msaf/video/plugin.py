"""Registers MSAF's video networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.msaf.video.config import MSAFNTUConfig, MSAFRavdessConfig
from fusionkit_plugins.msaf.video.presets import (
    NTU_PRESETS,
    NTU_TRAIN_DEFAULTS,
    RAVDESS_PRESETS,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import AuxiliaryObjective, DataSpec, MultimodalBatch

_PAPER = "MSAF: Multimodal Split Attention Fusion (Su, Hu, Li, Cao; 2020; arXiv 2012.07175)"
_CITATION = """@article{su2020msaf,
  title   = {{MSAF}: Multimodal Split Attention Fusion},
  author  = {Su, Lang and Hu, Chuqing and Li, Guofa and Cao, Dongpu},
  journal = {arXiv preprint arXiv:2012.07175},
  year    = {2020}
}"""


def _build_ravdess(config: MSAFRavdessConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.msaf.video.ravdess import MSAFRavdess

    return MSAFRavdess(config, spec)


def _build_ntu(config: MSAFNTUConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.msaf.video.ntu import MSAFNTU

    return MSAFNTU(config, spec)


def _ntu_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    from fusionkit_plugins.msaf.video.ntu import training_step

    return training_step(model, batch, task_loss)


def _ntu_auxiliary(model: nn.Module) -> Sequence[AuxiliaryObjective]:
    from fusionkit_plugins.msaf.video.ntu import auxiliary

    return auxiliary(model)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.msaf.video.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``msaf_ravdess`` and ``msaf_ntu``."""
    register(
        Method(
            name="msaf_ravdess",
            summary="split attention between a 3D ResNeXt on video and a 1D CNN on audio",
            config=MSAFRavdessConfig,
            build=_build_ravdess,
            paper=_PAPER,
            citation=_CITATION,
            max_modalities=2,
            roles=("video", "audio"),
            train_defaults=RAVDESS_PRESETS["ravdess"]["train"],
            presets=RAVDESS_PRESETS,
            convert_checkpoint=_convert,
        )
    )
    register(
        Method(
            name="msaf_ntu",
            summary="split attention between I3D or ResNet-50 on video and HCN on skeletons",
            config=MSAFNTUConfig,
            build=_build_ntu,
            paper=_PAPER,
            citation=_CITATION,
            max_modalities=2,
            roles=("rgb", "skeleton"),
            training_step=_ntu_step,
            auxiliary=_ntu_auxiliary,
            train_defaults=NTU_TRAIN_DEFAULTS,
            presets=NTU_PRESETS,
        )
    )
