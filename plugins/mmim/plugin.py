"""Registers MMIM."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusionkit import ConvertedCheckpoint, Method, hookimpl
from fusionkit_plugins.mmim.config import MMIMConfig
from fusionkit_plugins.mmim.presets import ABLATIONS, PRESETS, PROTOCOL

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import AuxiliaryObjective, DataSpec, MultimodalBatch, TrainingMemory

_CITATION = """@inproceedings{han2021mmim,
  title     = {Improving Multimodal Fusion with Hierarchical Mutual Information Maximization for
               Multimodal Sentiment Analysis},
  author    = {Han, Wei and Chen, Hui and Poria, Soujanya},
  booktitle = {EMNLP},
  pages     = {9180--9192},
  year      = {2021}
}"""


def _build(config: MMIMConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.mmim.model import MMIM

    return MMIM(config, spec)


def _training_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    from fusionkit_plugins.mmim.objective import training_step

    return training_step(model, batch, task_loss)


def _auxiliary(model: nn.Module) -> Sequence[AuxiliaryObjective]:
    from fusionkit_plugins.mmim.objective import first_stage

    return first_stage(model)


def _memory(model: nn.Module) -> TrainingMemory:
    from fusionkit_plugins.mmim.objective import memory

    return memory(model)


def _convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    from fusionkit_plugins.mmim.checkpoint import convert

    return convert(state_dict)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``mmim``."""
    register(
        Method(
            name="mmim",
            summary="vectors side by side, with bounds on mutual information between them raised",
            config=MMIMConfig,
            build=_build,
            paper="Improving Multimodal Fusion with Hierarchical Mutual Information Maximization "
            "for Multimodal Sentiment Analysis (Han, Chen, Poria; EMNLP 2021)",
            citation=_CITATION,
            training_step=_training_step,
            auxiliary=_auxiliary,
            memory=_memory,
            train_defaults=PROTOCOL,
            presets=PRESETS,
            ablations=ABLATIONS,
            convert_checkpoint=_convert,
        )
    )
