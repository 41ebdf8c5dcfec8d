"""Official RAVDESS state dictionaries of MSAF under FusionKit's parameter names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from fusionkit import CheckpointError, ConvertedCheckpoint
from fusionkit_plugins.msaf.checkpoint import fusion_name

# The released network is cut into pieces: (piece, index in it) of what has parameters.
_VIDEO = {
    ("0", "0"): "conv1",
    ("0", "1"): "bn1",
    ("0", "3"): "layer1",
    ("0", "4"): "layer2",
    ("0", "5"): "layer3",
    ("1", "0"): "layer4",
    ("2", "2"): "fc",
}
_AUDIO = {
    ("0", "0"): "conv1",
    ("0", "2"): "bn1",
    ("0", "3"): "conv2",
    ("1", "1"): "bn2",
    ("1", "3"): "conv3",
    ("1", "5"): "bn3",
    ("2", "2"): "fc1",
}
_FRAME_SIZE, _AUDIO_STEPS = 224, 212
_FOREIGN = "is no parameter of the official MSAF network for RAVDESS"


def official_to_ours(name: str) -> str:
    """Name of a parameter or buffer of the official fused network in ours.

    >>> official_to_ours("video_model_blocks.0.3.0.conv1.weight")
    'video.layer1.0.conv1.weight'

    Raises:
        CheckpointError: the official network has no such parameter.
    """
    if match := re.fullmatch(r"(video|audio)_model_blocks\.(\d+)\.(\d+)\.(.+)", name):
        parts = _VIDEO if match[1] == "video" else _AUDIO
        if (match[2], match[3]) in parts:
            return f"{match[1]}.{parts[match[2], match[3]]}.{match[4]}"
    if match := re.fullmatch(r"msaf\.([01])\.(.+)", name):
        return f"fusions.{match[1]}.{fusion_name(match[2])}"
    raise CheckpointError(f"{name!r} {_FOREIGN}")


def convert(state_dict: Mapping[str, Tensor]) -> ConvertedCheckpoint:
    """Sizes from the shapes of an official fused state dictionary, and its parameters.

    The fused network was trained without the stem's ReLU and so is converted without it. The size
    of a frame leaves no trace in the weights: 224 is assumed. Of the steps of the audio features
    the shapes tell eight at once: 212, the published number, is taken where it fits.

    Raises:
        CheckpointError: names or shapes are not those of the official network.
    """
    parameters = {official_to_ours(name): tensor for name, tensor in state_dict.items()}
    try:
        width, channels = parameters["video.conv1.weight"].shape[:2]
        audio_width, coefficients = parameters["audio.conv1.weight"].shape[:2]
        middle, per_group = parameters["video.layer1.0.conv2.weight"].shape[:2]
        outputs, flat = parameters["audio.fc1.weight"].shape
        squeezes = [parameters[f"fusions.{k}.segments.0.squeeze.weight"].shape for k in (0, 1)]
    except KeyError as error:
        raise CheckpointError(f"the official state dictionary lacks {error}") from None
    pooled = flat // (2 * audio_width)
    published = pooled == (_AUDIO_STEPS - 4) // 8
    config: dict[str, Any] = {
        "frame_size": _FRAME_SIZE,
        "channels": channels,
        "audio_steps": _AUDIO_STEPS if published else 8 * pooled + 4,
        "video_width": width,
        "video_layers": [_blocks(parameters, stage) for stage in (1, 2, 3, 4)],
        "cardinality": middle // per_group,
        "stem_relu": False,
        "audio_width": audio_width,
        "block_sizes": [size for _, size in squeezes],
        "reduction": squeezes[0][1] // squeezes[0][0],
        "block_dropout_mode": "released",
        "augment": "frame",
    }
    sizes = {"video": channels * _FRAME_SIZE**2, "audio": coefficients}
    return ConvertedCheckpoint(config, sizes, outputs, parameters, task="classification")


def _blocks(parameters: Mapping[str, Tensor], stage: int) -> int:
    found = {
        match[1]
        for name in parameters
        if (match := re.match(rf"video\.layer{stage}\.(\d+)\.", name))
    }
    if not found:
        raise CheckpointError(f"the official state dictionary lacks 'video.layer{stage}'")
    return len(found)
