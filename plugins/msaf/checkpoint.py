"""Official MSAF state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

MODALITIES = ("visual", "audio", "text")
_FIRST_LAYER = "streams.stages.{}.0.weight_ih_l0"


def fusion_name(name: str) -> str:
    """Name of a parameter or buffer of the official MSAF module in `fusionkit.nn.SplitAttention`.

    >>> fusion_name("blocks.3.dense_group.12.weight")
    'segments.3.highlights.12.weight'

    Raises:
        CheckpointError: the official module has no such parameter.
    """
    if match := re.fullmatch(r"blocks\.(\d+)\.joint_features\.0\.(weight|bias)", name):
        return f"segments.{match[1]}.squeeze.{match[2]}"
    if match := re.fullmatch(r"blocks\.(\d+)\.joint_features\.1\.(\w+)", name):
        return f"segments.{match[1]}.norm.{match[2]}"
    if match := re.fullmatch(r"blocks\.(\d+)\.dense_group\.(\d+)\.(weight|bias)", name):
        return f"segments.{match[1]}.highlights.{match[2]}.{match[3]}"
    raise CheckpointError(f"{name!r} is no parameter of the official MSAF module")


def official_to_ours(name: str) -> str:
    """Name of a parameter of the official CMU-MOSEI network in ours.

    >>> official_to_ours("visual_model.1.weight_hh_l0")
    'streams.stages.visual.1.weight_hh_l0'

    Raises:
        CheckpointError: the official network has no such parameter.
    """
    if match := re.fullmatch(r"(visual|audio|text)_model\.([01])\.(\w+_l0)", name):
        return f"streams.stages.{match[1]}.{match[2]}.{match[3]}"
    if match := re.fullmatch(r"msaf\.0\.(.+)", name):
        return f"streams.fusions.0.{fusion_name(match[1])}"
    if match := re.fullmatch(r"multimodal_classifier\.0\.(weight|bias)", name):
        return f"classifier.{match[1]}"
    raise CheckpointError(f"{name!r} is no parameter of the official MSAF network for CMU-MOSEI")


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes from the shapes of an official CMU-MOSEI state dictionary, and its parameters.

    The official code treats padding as data (``lengths="padded"``): so do the converted weights.
    The shapes do not tell the attention's floor; it is 0 in the official network.

    Raises:
        CheckpointError: names or shapes are not those of the official network.
    """
    parameters = {official_to_ours(name): tensor for name, tensor in state_dict.items()}
    try:
        first = {m: parameters[_FIRST_LAYER.format(m)] for m in MODALITIES}
        reduced_size, block_size = parameters["streams.fusions.0.segments.0.squeeze.weight"].shape
        outputs = len(parameters["classifier.bias"])
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    config: dict[str, Any] = {
        "hidden_size": {m: weight.shape[0] // 4 for m, weight in first.items()},
        "block_size": block_size,
        "reduction": block_size // reduced_size,
        "num_segments": sum(
            f"streams.fusions.0.segments.{k}.squeeze.weight" in parameters
            for k in range(len(parameters))
        ),
        "lengths": "padded",
        "block_dropout_mode": "released",
    }
    sizes = {m: weight.shape[1] for m, weight in first.items()}
    return ConvertedCheckpoint(config, sizes, outputs, parameters)
