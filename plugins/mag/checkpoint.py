"""Official state dictionaries, of the gate and of MAG-BERT, under FusionKit's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

OTHERS = ("visual", "acoustic")
_LETTERS = {"v": "visual", "a": "acoustic"}
# Features of an attention head in the original BERTs; the shapes do not tell it.
_HEAD_SIZE = 64
_WORDS = "bert.embeddings.word_embeddings.weight"
_POSITIONS = "bert.embeddings.position_embeddings.weight"
_TYPES = "bert.embeddings.token_type_embeddings.weight"
_LAYERS = "bert.encoder.layer."
_INNER = "bert.encoder.layer.0.intermediate.dense.weight"


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
    it leaves the language model and the classifier. The gate's modalities are called ``visual`` and
    ``acoustic``.

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


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes from the shapes of an official MAG-BERT's state dictionary, and its parameters.

    The converted model reads token ids in column 0 of ``text`` and needs no BERT folder. Its heads
    have 64 features, as in the original BERTs; ``beta`` and the dropouts, which shapes do not show
    either, are those of the released script.

    Raises:
        CheckpointError: names or shapes are not those of the official model.
    """
    gate = convert_gate(state_dict)
    parameters = {f"gate.{name}": value for name, value in gate.items()}
    for name, value in state_dict.items():
        if re.fullmatch(r"(bert\.(embeddings|encoder|pooler)|classifier)\..+", name):
            parameters[name] = value
        elif not name.startswith("bert.MAG."):
            raise CheckpointError(f"{name!r} is no parameter of the official MAG-BERT")
    # Older versions of transformers save this constant.
    parameters.pop("bert.embeddings.position_ids", None)
    try:
        vocabulary, hidden = parameters[_WORDS].shape
        config: dict[str, Any] = {
            "main": "text",
            "classifier_dropout": 0.1,
            "bert_sizes": {
                "vocabulary": vocabulary,
                "hidden_size": hidden,
                "layers": len({n.split(".")[3] for n in parameters if n.startswith(_LAYERS)}),
                "heads": hidden // _HEAD_SIZE,
                "intermediate_size": len(parameters[_INNER]),
                "max_tokens": len(parameters[_POSITIONS]),
                "token_types": len(parameters[_TYPES]),
            },
        }
        outputs = len(parameters["classifier.bias"])
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    if hidden % _HEAD_SIZE:
        raise CheckpointError(
            f"a BERT of {hidden} features has no heads of {_HEAD_SIZE}, as the original ones have"
        )
    sizes = {name: gate[f"projections.{name}.weight"].shape[1] for name in OTHERS}
    return ConvertedCheckpoint(config, {"text": 1, **sizes}, outputs, parameters)
