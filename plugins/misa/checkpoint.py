"""Official MISA state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

# The order inside the official model.
MODALITIES = ("text", "visual", "audio")

_NAMES = {"t": "text", "v": "visual", "a": "audio"}
# A language model and word embeddings come before our inputs; the second discriminator is in no
# loss and in no output.
_LEFT_OUT = re.compile(r"(bertmodel|embed|sp_discriminator)\.")
_LAYER = {
    "self_attn.in_proj_": "projection.",
    "self_attn.out_proj.": "output.",
    "linear1.": "expand.",
    "linear2.": "contract.",
    "norm1.": "attention_norm.",
    "norm2.": "feedforward_norm.",
}


def official_to_ours(name: str) -> str:
    """Name of a parameter of the official model in ours.

    >>> official_to_ours("private_a.private_a_3.weight")
    'private.audio.0.weight'

    Raises:
        CheckpointError: the official model has no such parameter, or ours has none for it.
    """
    if match := re.fullmatch(r"([tva])rnn([12])\.(\w+)", name):
        network = "first" if match[2] == "1" else "second"
        return f"encoders.{_NAMES[match[1]]}.{network}.{match[3]}"
    if match := re.fullmatch(r"([tva])layer_norm\.(weight|bias)", name):
        return f"encoders.{_NAMES[match[1]]}.norm.{match[2]}"
    if match := re.fullmatch(r"project_([tva])\.project_\1(_layer_norm)?\.(weight|bias)", name):
        return f"project.{_NAMES[match[1]]}.{2 if match[2] else 0}.{match[3]}"
    if match := re.fullmatch(r"private_([tva])\.private_\1_\d\.(weight|bias)", name):
        return f"private.{_NAMES[match[1]]}.0.{match[2]}"
    if match := re.fullmatch(r"recon_([tva])\.recon_\1_1\.(weight|bias)", name):
        return f"reconstruction.{_NAMES[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"shared\.shared_1\.(weight|bias)", name):
        return f"shared.0.{match[1]}"
    if match := re.fullmatch(
        r"(discriminator\.discriminator|fusion\.fusion)_layer_(\d)\.(\w+)", name
    ):
        part = "head" if match[1].startswith("fusion") else "discriminator"
        return f"{part}.{0 if match[2] == '1' else 3}.{match[3]}"
    if match := re.fullmatch(r"transformer_encoder\.layers\.(\d+)\.(.+)", name):
        for theirs, ours in _LAYER.items():
            if match[2] in (f"{theirs}weight", f"{theirs}bias"):
                return f"transformer.{match[1]}.{ours}{match[2].removeprefix(theirs)}"
    raise CheckpointError(f"{name!r} is no parameter of the official MISA")


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes and options from the shapes of an official state dictionary, and its parameters.

    The text input of the converted model is what the official one computes from token ids first:
    word embeddings (``embed``), or the last hidden states of its language model (``bertmodel``),
    which are averaged (``encoder: {text: mean}``). These parts of the dictionary are left out. The
    number of heads and the activation are not in it: the official 2 and ReLU are taken.

    Raises:
        CheckpointError: names or shapes are not those of the official model.
    """
    parameters = {
        official_to_ours(name): tensor
        for name, tensor in state_dict.items()
        if not _LEFT_OUT.match(name)
    }
    text = "paper" if "encoders.text.first.weight_hh_l0" in parameters else "mean"
    if text == "mean":
        # The norm between the text's networks is there without them, too.
        parameters = {n: p for n, p in parameters.items() if not n.startswith("encoders.text.")}
    recurrent = [m for m in MODALITIES if text == "paper" or m != "text"]
    try:
        states = {m: parameters[f"encoders.{m}.first.weight_hh_l0"] for m in recurrent}
        sizes = {m: weight.shape[1] for m, weight in states.items()}
        if text == "mean":
            sizes = {"text": parameters["project.text.0.weight"].shape[1], **sizes}
        config: dict[str, Any] = {
            "hidden_size": len(parameters["shared.0.bias"]),
            "encoder": {"text": text},
            "cell": _cell(states),
            "transformer_layers": sum(
                f"transformer.{k}.expand.bias" in parameters for k in range(len(parameters))
            ),
            "feedforward_size": len(parameters["transformer.0.expand.bias"]),
            "similarity": "adversarial" if "discriminator.0.bias" in parameters else "cmd",
        }
        outputs = len(parameters["head.3.bias"])
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    return ConvertedCheckpoint(config, sizes, outputs, parameters)


def _cell(states: Mapping[str, Tensor]) -> str:
    gates = {weight.shape[0] / weight.shape[1] for weight in states.values()}
    if gates == {4.0}:
        return "lstm"
    if gates == {3.0}:
        return "gru"
    raise CheckpointError(f"recurrent networks have {sorted(gates)} gates; an LSTM has 4, a GRU 3")
