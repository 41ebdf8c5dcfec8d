"""Registers MSAF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.msaf.config import MSAFConfig
from fusionkit_plugins.msaf.presets import PRESETS, PROTOCOL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec

_CITATION = """@article{su2020msaf,
  title   = {{MSAF}: Multimodal Split Attention Fusion},
  author  = {Su, Lang and Hu, Chuqing and Li, Guofa and Cao, Dongpu},
  journal = {arXiv preprint arXiv:2012.07175},
  year    = {2020}
}"""


def _build(config: MSAFConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.msaf.model import MSAF

    return MSAF(config, spec)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.msaf.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``msaf``."""
    register(
        Method(
            name="msaf",
            summary="split attention over channel blocks between recurrent layers",
            config=MSAFConfig,
            build=_build,
            paper="MSAF: Multimodal Split Attention Fusion (Su, Hu, Li, Cao; 2020; "
            "arXiv 2012.07175)",
            citation=_CITATION,
            presets=PRESETS,
            train_defaults=PROTOCOL,
            ablations={
                "no-fusion": {"fusion": False},
                "no-attention": {"attention_floor": 1.0},
                "no-block-dropout": {"block_dropout": 0.0},
                "one-segment": {"num_segments": 1},
            },
            convert_checkpoint=_convert,
        )
    )
