"""Official LMF state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint
from fusionkit_plugins.tfn.checkpoint import official_subnetwork, subnetwork_options

_FUSION = {
    "audio_factor": "fusion.factors.0",
    "video_factor": "fusion.factors.1",
    "text_factor": "fusion.factors.2",
    "fusion_weights": "fusion.weights",
    "fusion_bias": "fusion.bias",
}


def official_to_ours(name: str) -> str:
    """Our name of an official parameter.

    >>> official_to_ours("text_factor")
    'fusion.factors.2'

    Raises:
        CheckpointError: the official model has no such parameter.
    """
    ours = _FUSION.get(name) or official_subnetwork(name)
    if ours is None:
        raise CheckpointError(f"{name!r} is no parameter of the official LMF")
    return ours


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes and rank from the shapes of an official state dictionary, and its parameters.

    The official code treats padding as data (``lengths="padded"``): so do the converted weights.
    Several outputs are class logits there; ``softmax`` leaves no trace in the parameters and stays
    off.

    Raises:
        CheckpointError: names are not those of the official model.
    """
    parameters = {official_to_ours(name): tensor for name, tensor in state_dict.items()}
    try:
        options, sizes = subnetwork_options(parameters)
        options["rank"], _, outputs = parameters["fusion.factors.0"].shape
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    task = "regression" if outputs == 1 else "classification"
    return ConvertedCheckpoint(options, sizes, outputs, parameters, task)
