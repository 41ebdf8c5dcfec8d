"""Official Self-MM state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

MODALITIES = ("text", "audio", "vision")
_NAMES = {"text": "text", "audio": "audio", "video": "vision"}
_LANGUAGE_MODEL = "text_model."


def official_to_ours(name: str) -> str:
    """Our name of an official parameter outside the language model.

    >>> official_to_ours("post_video_layer_1.weight")
    'heads.vision.linear_1.weight'

    Raises:
        CheckpointError: the official model has no such parameter.
    """
    if match := re.fullmatch(r"(audio|video)_model\.((?:rnn|linear_1)\.\w+)", name):
        return f"encoders.{_NAMES[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"post_(fusion|text|audio|video)_layer_([123])\.(weight|bias)", name):
        head = "fusion_head" if match[1] == "fusion" else f"heads.{_NAMES[match[1]]}"
        return f"{head}.linear_{match[2]}.{match[3]}"
    raise CheckpointError(f"{name!r} is no parameter of the official Self-MM")


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes from the shapes of an official state dictionary, and its parameters.

    The language model (``text_model.*``) is left out: the converted model takes its last hidden
    states as the features of ``text``, of which it uses the first step.

    Raises:
        CheckpointError: names are not those of the official model.
    """
    parameters = {
        official_to_ours(name): tensor
        for name, tensor in state_dict.items()
        if not name.startswith(_LANGUAGE_MODEL)
    }
    try:
        recurrent = {m: parameters[f"encoders.{m}.rnn.weight_hh_l0"] for m in MODALITIES[1:]}
        linear = {m: parameters[f"encoders.{m}.linear_1.weight"] for m in MODALITIES[1:]}
        first = {m: parameters[f"heads.{m}.linear_1.weight"] for m in MODALITIES}
        inputs = {m: parameters[f"encoders.{m}.rnn.weight_ih_l0"] for m in MODALITIES[1:]}
        outputs, fusion = parameters["fusion_head.linear_3.weight"].shape
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    config: dict[str, Any] = {
        "main": "text",
        "main_vector": "first",
        "recurrent_size": {m: weight.shape[1] for m, weight in recurrent.items()},
        "vector_size": {m: weight.shape[0] for m, weight in linear.items()},
        "head_size": {m: weight.shape[0] for m, weight in first.items()},
        "fusion_size": fusion,
    }
    sizes = {"text": first["text"].shape[1], **{m: w.shape[1] for m, w in inputs.items()}}
    return ConvertedCheckpoint(config, sizes, outputs, parameters)
