"""The official MAG module's parameters under FusionKit's names."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from fusionkit import CheckpointError

OTHERS = ("visual", "acoustic")
_LETTERS = {"v": "visual", "a": "acoustic"}


def official_to_ours(name: str) -> str:
    """Name of a parameter of the official ``MAG`` module in `MultimodalAdaptationGate`.

    >>> official_to_ours("W_hv.weight")
    'gates.visual.weight'

    Raises:
        CheckpointError: the official module has no such parameter.
    """
    if match := re.fullmatch(r"W_(h?)([va])\.(weight|bias)", name):
        return f"{'gates' if match[1] else 'projections'}.{_LETTERS[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"LayerNorm\.(weight|bias)", name):
        return f"norm.{match[1]}"
    raise CheckpointError(f"{name!r} is no parameter of the official MAG")


def convert_gate(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of a `MultimodalAdaptationGate` from the gate of an official state dictionary.

    Takes the state of the ``MAG`` module, or of a whole MAG-BERT (``...MAG.W_hv.weight``), of which
    it leaves the language model and the classifier: FusionKit has no BERT. The gate's modalities
    are called ``visual`` and ``acoustic``.

    Raises:
        CheckpointError: there is no complete gate in it.
    """
    whole = {name: value for name, value in state_dict.items() if re.search(r"\bMAG\.", name)}
    gate = {re.sub(r"^.*\bMAG\.", "", n): value for n, value in whole.items()} or state_dict
    converted = {official_to_ours(name): value for name, value in gate.items()}
    for letter in ("hv", "ha", "v", "a"):
        for part in ("weight", "bias"):
            if official_to_ours(f"W_{letter}.{part}") not in converted:
                raise CheckpointError(f"the official state dictionary lacks W_{letter}.{part}")
    if not {"norm.weight", "norm.bias"} <= set(converted):
        raise CheckpointError("the official state dictionary lacks LayerNorm")
    return converted
