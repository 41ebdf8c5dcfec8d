"""Official TFN state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

# The order in which the official code multiplies the vectors.
MODALITIES = ("audio", "visual", "text")
_SUBNETS = {"audio": "audio", "video": "visual", "text": "text"}
_LAYER = r"(?:norm|rnn|linear_[123])\.\w+"


def official_subnetwork(name: str) -> str | None:
    """Our name of a parameter of one of the official sub-networks, or None if it is none.

    >>> official_subnetwork("video_subnet.norm.weight")
    'encoders.of.visual.norm.weight'
    """
    match = re.fullmatch(rf"(audio|video|text)_subnet\.({_LAYER})", name)
    return None if match is None else f"encoders.of.{_SUBNETS[match[1]]}.{match[2]}"


def official_to_ours(name: str) -> str:
    """Our name of an official parameter; ``output_range`` and ``output_shift`` have none.

    >>> official_to_ours("post_fusion_layer_1.weight")
    'post_fusion_1.weight'

    Raises:
        CheckpointError: the official model has no such parameter.
    """
    if (ours := official_subnetwork(name)) is not None:
        return ours
    if match := re.fullmatch(r"post_fusion_layer_([123]\.(?:weight|bias))", name):
        return f"post_fusion_{match[1]}"
    raise CheckpointError(f"{name!r} is no parameter of the official TFN")


def subnetwork_options(parameters: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, int]]:
    """Options and input sizes of the sub-networks, from parameters under our names.

    Raises:
        KeyError: a parameter that is not there.
    """
    first = {m: parameters[f"encoders.of.{m}.linear_1.weight"] for m in MODALITIES}
    rnn = parameters["encoders.of.text.rnn.weight_ih_l0"]
    options = {
        "recurrent": ("text",),
        "hidden_size": {m: first[m].shape[0] for m in ("audio", "visual")},
        "recurrent_hidden_size": first["text"].shape[1],
        "recurrent_output_size": first["text"].shape[0],
        "lengths": "padded",
    }
    sizes = {"audio": first["audio"].shape[1], "visual": first["visual"].shape[1]}
    return options, {**sizes, "text": rnn.shape[1]}


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes and output range from an official state dictionary, and its parameters.

    The official code treats padding as data (``lengths="padded"``): so do the converted weights.

    Raises:
        CheckpointError: names are not those of the official model.
    """
    scale = {"output_range", "output_shift"}
    parameters = {official_to_ours(n): value for n, value in state_dict.items() if n not in scale}
    try:
        options, sizes = subnetwork_options(parameters)
        low = state_dict["output_shift"].item()
        options["output_range"] = (low, low + state_dict["output_range"].item())
        outputs, options["post_fusion_size"] = parameters["post_fusion_3.weight"].shape
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    return ConvertedCheckpoint(options, sizes, outputs, parameters)
