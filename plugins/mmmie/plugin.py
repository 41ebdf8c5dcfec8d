"""Registers MMMIE."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusionkit import Method, hookimpl
from fusionkit_plugins.mmmie.config import MMMIEConfig
from fusionkit_plugins.mmmie.presets import PRESETS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from fusionkit import AuxiliaryObjective, DataSpec, MultimodalBatch

_CITATION = """@article{zheng2022mmmie,
  title   = {Multimodal Representations Learning Based on Mutual Information Maximization and
             Minimization and Identity Embedding for Multimodal Sentiment Analysis},
  author  = {Zheng, Jiahao and Zhang, Sen and Wang, Xiaoping and Zeng, Zhigang},
  journal = {arXiv preprint arXiv:2201.03969},
  year    = {2022}
}"""

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "no-maximisation": {"maximise": None},
    "no-minimisation": {"minimise": None},
    "task-loss-only": {"maximise": None, "minimise": None},
    "no-identity": {"identity": None, "identity_context": False},
    "no-modality-identity": {"identity": "position"},
    "no-position-identity": {"identity": "modality"},
    "no-fusion-transformer": {"fusion_layers": 0},
}


def _build(config: MMMIEConfig, spec: DataSpec) -> nn.Module:
    from fusionkit_plugins.mmmie.model import MMMIE

    return MMMIE(config, spec)


def _training_step(
    model: nn.Module, batch: MultimodalBatch, task_loss: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    from fusionkit_plugins.mmmie.objective import training_step

    return training_step(model, batch, task_loss)


def _auxiliary(model: nn.Module) -> Sequence[AuxiliaryObjective]:
    from fusionkit_plugins.mmmie.objective import auxiliary

    return auxiliary(model)


@hookimpl
def fusionkit_register_methods(register: Callable[[Any], None]) -> None:
    """Add ``mmmie``."""
    register(
        Method(
            name="mmmie",
            summary="information maximised between modalities, minimised with the inputs",
            config=MMMIEConfig,
            build=_build,
            paper="after the abstract of: Multimodal Representations Learning Based on Mutual "
            "Information Maximization and Minimization and Identity Embedding for Multimodal "
            "Sentiment Analysis (Zheng, Zhang, Wang, Zeng; arXiv 2201.03969, 2022)",
            citation=_CITATION,
            training_step=_training_step,
            auxiliary=_auxiliary,
            train_defaults=PRESETS["default"]["train"],
            presets=PRESETS,
            ablations=ABLATIONS,
        )
    )
