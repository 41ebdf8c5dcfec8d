"""Official MMLatch state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

MODALITIES = ("text", "audio", "visual")

# In S(p, q) the official kx, qx, vx act on p and ky, qy, vy on q. The official "va" is called with
# (visual, audio), here the pair is (audio, visual): its x acts on the second.
_PAIRS = {
    "ta": ("text_with_audio", {"x": "first", "y": "second"}),
    "tv": ("text_with_visual", {"x": "first", "y": "second"}),
    "va": ("audio_with_visual", {"x": "second", "y": "first"}),
}
_PROJECTIONS = {"k": "key", "q": "query", "v": "value"}
_FEEDBACK = {"f1": "text", "f2": "audio", "f3": "visual"}


def official_to_ours(name: str) -> str:
    """Name of a parameter of the official whole model in ours.

    >>> official_to_ours("encoder.fuser.att_fuser.va.kx.weight")
    'fuser.attention.symmetric.audio_with_visual.key_second.weight'

    Raises:
        CheckpointError: the official model has no such parameter.
    """
    if match := re.fullmatch(r"encoder\.(text|audio|visual)\.(?:encoder|\1)\.(.+)", name):
        return f"encoders.{match[1]}.{_recurrent(match[2], name)}"
    if match := re.fullmatch(r"encoder\.fuser\.att_fuser\.(ta|tv|va)\.([kqv])([xy])\.weight", name):
        pair, side = _PAIRS[match[1]]
        projection = f"{_PROJECTIONS[match[2]]}_{side[match[3]]}"
        return f"fuser.attention.symmetric.{pair}.{projection}.weight"
    if match := re.fullmatch(r"encoder\.fuser\.att_fuser\.tav\.([kqv])\.weight", name):
        return f"fuser.attention.trimodal.{_PROJECTIONS[match[1]]}.weight"
    if match := re.fullmatch(r"encoder\.fuser\.rnn\.(.+)", name):
        return f"fuser.rnn.{_recurrent(match[1], name)}"
    if match := re.fullmatch(r"encoder\.fm\.(f[123])\.mask([12])\.(?:rnn\.)?(\w+)", name):
        return f"feedback.{_FEEDBACK[match[1]]}.gates.{int(match[2]) - 1}.{match[3]}"
    if re.fullmatch(r"classifier\.(weight|bias)", name):
        return name
    raise CheckpointError(f"{name!r} is no parameter of the official MMLatch")


def _recurrent(rest: str, name: str) -> str:
    if match := re.fullmatch(r"rnn\.rnn\.(\w+)", rest):
        return f"rnn.{match[1]}"
    if match := re.fullmatch(r"attention\.([kqv])\.weight", rest):
        return f"attention.{_PROJECTIONS[match[1]]}.weight"
    raise CheckpointError(f"{name!r} is no parameter of the official MMLatch")


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes and options from the shapes of an official state dictionary, and its parameters.

    The official code treats padding as data (``lengths="padded"``): so do the converted weights.
    Its mask dropout in evaluation is left off; ``--set mask_dropout_at_eval=true`` turns it on.

    Raises:
        CheckpointError: names or shapes are not those of the official model.
    """
    parameters = {official_to_ours(name): tensor for name, tensor in state_dict.items()}
    try:
        hidden = parameters["encoders.text.attention.key.weight"].shape[0]
        first = {m: parameters[f"encoders.{m}.rnn.weight_ih_l0"] for m in MODALITIES}
        outputs = len(parameters["classifier.bias"])
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    gates = first["text"].shape[0] // hidden
    if gates not in (3, 4):
        raise CheckpointError(f"encoders have {gates} gates; an LSTM has 4, a GRU 3")
    layers = {
        m: sum(f"encoders.{m}.rnn.weight_ih_l{i}" in parameters for i in range(len(parameters)))
        for m in MODALITIES
    }
    config: dict[str, Any] = {
        "hidden_size": hidden,
        "encoder": "lstm" if gates == 4 else "gru",
        "encoder_layers": layers,
        "bidirectional": "encoders.text.rnn.weight_ih_l0_reverse" in parameters,
        "mask": _mask_kind(parameters),
        "lengths": "padded",
        "padding_in_fuser": True,
    }
    sizes = {m: weight.shape[1] for m, weight in first.items()}
    return ConvertedCheckpoint(config, sizes, outputs, parameters)


def _mask_kind(parameters: Mapping[str, Tensor]) -> str | None:
    if "feedback.text.gates.0.weight_ih_l0" in parameters:
        return "lstm"
    return "linear" if "feedback.text.gates.0.weight" in parameters else None
