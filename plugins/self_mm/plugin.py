"""Registers Self-MM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from fusionkit import ConvertedCheckpoint, Method, TrainingMemory, hookimpl
from fusionkit_plugins.self_mm.config import SelfMMConfig
from fusionkit_plugins.self_mm.presets import PRESETS, TRAIN_DEFAULTS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import DataSpec, MultimodalBatch, ParameterGroup
    from fusionkit_plugins.self_mm.model import SelfMM

_CITATION = """@inproceedings{yu2021learning,
  title     = {Learning Modality-Specific Representations with Self-Supervised Multi-Task Learning
               for Multimodal Sentiment Analysis},
  author    = {Yu, Wenmeng and Xu, Hua and Yuan, Ziqi and Wu, Jiele},
  booktitle = {AAAI},
  pages     = {10790--10797},
  year      = {2021}
}"""


def _build(config: SelfMMConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.self_mm.model import SelfMM

    return SelfMM(config, spec)


def _training_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    from fusionkit_plugins.self_mm.objective import training_step

    return training_step(cast("SelfMM", model), batch, task_loss)


def _parameter_groups(model: nn.Module) -> Sequence[ParameterGroup]:
    from fusionkit_plugins.self_mm.model import parameter_groups

    return parameter_groups(model)


def _memory(model: nn.Module) -> TrainingMemory:
    return cast("SelfMM", model).memory


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.self_mm.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``self_mm``."""
    register(
        Method(
            name="self_mm",
            summary="a head on each modality, trained on labels that are made while training",
            config=SelfMMConfig,
            build=_build,
            paper="Learning Modality-Specific Representations with Self-Supervised Multi-Task "
            "Learning for Multimodal Sentiment Analysis (Yu, Xu, Yuan, Wu; AAAI 2021; "
            "arXiv 2102.04830)",
            citation=_CITATION,
            tasks=frozenset({"regression"}),
            training_step=_training_step,
            parameter_groups=_parameter_groups,
            memory=_memory,
            presets=PRESETS,
            train_defaults=TRAIN_DEFAULTS,
            convert_checkpoint=_convert,
        )
    )
