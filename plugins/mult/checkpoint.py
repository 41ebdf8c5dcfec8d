"""Official MulT state dictionaries under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint

# In the order of the official model's arguments.
MODALITIES = ("text", "audio", "vision")
_LETTERS = dict(zip("lav", MODALITIES))
_HEAD = {"proj1": "inner1", "proj2": "inner2", "out_layer": "output"}
_LAYER = {
    "self_attn.in_proj_": "attention.in_proj_",
    "self_attn.out_proj.": "attention.out_proj.",
    "fc1.": "linear1.",
    "fc2.": "linear2.",
    "layer_norms.0.": "norm1.",
    "layer_norms.1.": "norm2.",
}
_NO_PARAMETERS = re.compile(r"trans_.+\.(version|embed_positions\._float_tensor)")


def official_to_ours(name: str) -> str:
    """Name of a parameter of the official whole model in ours.

    >>> official_to_ours("trans_l_with_a.layers.0.fc1.weight")
    'crossmodal.text.audio.layers.0.linear1.weight'
    >>> official_to_ours("trans_v_mem.layer_norm.bias")
    'memory.vision.norm.bias'

    Raises:
        CheckpointError: the official model has no such parameter.
    """
    if match := re.fullmatch(r"proj_([lav])\.weight", name):
        return f"projections.{_LETTERS[match[1]]}.weight"
    if match := re.fullmatch(r"(proj1|proj2|out_layer)\.(weight|bias)", name):
        return f"head.{_HEAD[match[1]]}.{match[2]}"
    if match := re.fullmatch(r"trans_([lav])_with_([lav])\.(.+)", name):
        target, source = _LETTERS[match[1]], _LETTERS[match[2]]
        return f"crossmodal.{target}.{source}.{_encoder(match[3], name)}"
    if match := re.fullmatch(r"trans_([lav])_mem\.(.+)", name):
        return f"memory.{_LETTERS[match[1]]}.{_encoder(match[2], name)}"
    raise CheckpointError(f"{name!r} is no parameter of the official MulT")


def _encoder(rest: str, name: str) -> str:
    if match := re.fullmatch(r"layer_norm\.(weight|bias)", rest):
        return f"norm.{match[1]}"
    if match := re.fullmatch(r"(layers\.\d+\.)(.+[._])(weight|bias)", rest):
        layer, part, kind = match.groups()
        if part in _LAYER:
            return f"{layer}{_LAYER[part]}{kind}"
    raise CheckpointError(f"{name!r} is no parameter of the official MulT")


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes and options from the shapes of an official state dictionary, and its parameters.

    The shapes do not tell the number of heads (``num_heads`` is left at the default, which is the
    official one) nor whether the attention mask was on (the official default: yes); options of the
    conversion override both. Parameters that the official model keeps but does not use are left
    out: memories of modalities that are no target, and the projection of a modality that has the
    model's width already.

    Raises:
        CheckpointError: names or shapes are not those of the official model.
    """
    parameters = {
        official_to_ours(name): tensor
        for name, tensor in state_dict.items()
        if not _NO_PARAMETERS.fullmatch(name)
    }
    projections = {m: _weight(parameters, f"projections.{m}.weight", 3) for m in MODALITIES}
    width, outputs = projections["text"].shape[0], len(_weight(parameters, "head.output.weight", 2))
    sizes = {m: weight.shape[1] for m, weight in projections.items()}
    targets = [m for m in MODALITIES if any(n.startswith(f"crossmodal.{m}.") for n in parameters)]
    if not targets:
        raise CheckpointError("the official state dictionary has no cross-modal transformer")
    first = targets[0]
    source = next(m for m in MODALITIES if m != first)
    config: dict[str, Any] = {
        "width": width,
        "num_layers": _layers(parameters, f"crossmodal.{first}.{source}."),
        "memory_layers": _layers(parameters, f"memory.{first}."),
        "kernel_size": {m: weight.shape[2] for m, weight in projections.items()},
        "targets": targets if len(targets) < len(MODALITIES) else None,
        "lengths": "padded",
        "positions": "released",
        "attn_mask": True,
    }
    unused = [f"memory.{m}." for m in MODALITIES if m not in targets]
    unused += [
        f"projections.{m}."
        for m, size in sizes.items()
        if size == width and projections[m].shape[2] == 1
    ]
    kept = {n: p for n, p in parameters.items() if not n.startswith(tuple(unused))}
    return ConvertedCheckpoint(config, sizes, outputs, kept)


def _weight(parameters: Mapping[str, Tensor], name: str, axes: int) -> Tensor:
    if name not in parameters:
        raise CheckpointError(f"the official state dictionary lacks what becomes {name!r}")
    if parameters[name].dim() != axes:
        raise CheckpointError(f"what becomes {name!r} has not {axes} axes")
    return parameters[name]


def _layers(parameters: Mapping[str, Tensor], prefix: str) -> int:
    found = {
        int(match[1])
        for name in parameters
        if (match := re.match(re.escape(prefix) + r"layers\.(\d+)\.", name))
    }
    if found != set(range(len(found))) or not found:
        raise CheckpointError(f"{prefix}layers: numbers {sorted(found)}, not 0 to the depth")
    return len(found)
