"""Official MMIM state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

# The order of the official concatenation.
MODALITIES = ("text", "audio", "visual")

_ENCODERS = {"visual_enc": "visual", "acoustic_enc": "audio"}
_PAIRS = {"tv": "text_to_visual", "ta": "text_to_audio", "va": "visual_to_audio"}
_NETWORKS = {"mlp_mu": "mean", "mlp_logvar": "log_variance"}
_LETTERS = {"t": "text", "a": "audio", "v": "visual"}
_HEAD = {"1": "first", "2": "second", "3": "output"}


def official_to_ours(name: str) -> str:
    """Name of a parameter of the official model in ours.

    >>> official_to_ours("mi_tv.mlp_mu.2.bias")
    'bounds.text_to_visual.conditional.mean.2.bias'

    Raises:
        CheckpointError: the official model has no such parameter, or ours has none for it.
    """
    if match := re.fullmatch(r"(visual|acoustic)_enc\.rnn\.(\w+)", name):
        return f"encoders.{_ENCODERS[match[1] + '_enc']}.rnn.{match[2]}"
    if match := re.fullmatch(r"(visual|acoustic)_enc\.linear_1\.(weight|bias)", name):
        return f"encoders.{_ENCODERS[match[1] + '_enc']}.linear.{match[2]}"
    if match := re.fullmatch(r"mi_(tv|ta|va)\.(mlp_mu|mlp_logvar)\.([02]\.\w+)", name):
        return f"bounds.{_PAIRS[match[1]]}.conditional.{_NETWORKS[match[2]]}.{match[3]}"
    if match := re.fullmatch(r"mi_(tv|ta|va)\.entropy_prj\.0\.(weight|bias)", name):
        return f"bounds.{_PAIRS[match[1]]}.projection.{match[2]}"
    if match := re.fullmatch(r"cpc_z([tva])\.net\.(?:(\d+)\.)?(weight|bias)", name):
        return f"contrast.{_LETTERS[match[1]]}.predictor.{match[2] or 0}.{match[3]}"
    if match := re.fullmatch(r"fusion_prj\.linear_([123])\.(weight|bias)", name):
        return f"head.{_HEAD[match[1]]}.{match[2]}"
    raise CheckpointError(f"{name!r} is no parameter of the official MMIM")


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes and options from the shapes of an official state dictionary, and its parameters.

    The text input of the converted model is the sequence of BERT's last hidden states, of which
    the first is taken; BERT's own parameters (``text_enc``) are left out. Options that shapes do
    not show are those of the released code.

    Raises:
        CheckpointError: names or shapes are not those of the official model.
    """
    parameters = {
        official_to_ours(name): tensor
        for name, tensor in state_dict.items()
        if not name.startswith("text_enc.")
    }
    try:
        states = {m: parameters[f"encoders.{m}.rnn.weight_hh_l0"] for m in ("audio", "visual")}
        text = len(parameters["contrast.text.predictor.0.bias"])
        sizes = {m: parameters[f"encoders.{m}.rnn.weight_ih_l0"].shape[1] for m in states}
        # The text has no such encoder; its entries are never read.
        hidden = {"text": 1, **{m: weight.shape[1] for m, weight in states.items()}}
        outputs = {m: len(parameters[f"encoders.{m}.linear.bias"]) for m in states}
        config: dict[str, Any] = {
            "main": "text",
            "main_encoder": "first",
            "encoder_hidden": hidden,
            "encoder_size": {"text": 1, **outputs},
            "encoder_layers": _count(parameters, r"encoders\.audio\.rnn\.weight_ih_l\d+"),
            "bidirectional": "encoders.audio.rnn.weight_ih_l0_reverse" in parameters,
            "hidden_size": len(parameters["head.first.bias"]),
            "all_pairs": "bounds.visual_to_audio.projection.bias" in parameters,
            "cpc_layers": _count(parameters, r"contrast\.text\.predictor\.\d+\.weight"),
            "first_layer_state": True,
            "bounded_log_variance": False,
            "log_variance_term": False,
            "entropy": "released",
            "cpc_one_activation": True,
        }
        num_outputs = len(parameters["head.output.bias"])
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    gates = {weight.shape[0] / weight.shape[1] for weight in states.values()}
    if gates != {4.0}:
        raise CheckpointError(f"recurrent networks have {sorted(gates)} gates; an LSTM has 4")
    return ConvertedCheckpoint(config, {"text": text, **sizes}, num_outputs, parameters)


def _count(parameters: Mapping[str, Tensor], pattern: str) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in parameters)
