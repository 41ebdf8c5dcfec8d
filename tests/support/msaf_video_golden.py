"""Golden files of MSAF's video networks, and our modules for them."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit.nn.split_attention import SplitAttention
from fusionkit_plugins.msaf.checkpoint import fusion_name
from fusionkit_plugins.msaf.video.audio_cnn import AudioCNN
from fusionkit_plugins.msaf.video.checkpoint import official_to_ours
from fusionkit_plugins.msaf.video.config import MSAFRavdessConfig
from fusionkit_plugins.msaf.video.ravdess import MSAFRavdess

from golden import Arrays, Built, Golden


def audio_cnn(golden: Golden) -> Built:
    """The audio network alone, in the file's mode."""
    mfcc, logits = golden.group("in")["mfcc"], golden.group("out")["logits"]
    weight = golden.group("param")["conv1.weight"]
    module = AudioCNN(
        mfcc.shape[1],
        mfcc.shape[2],
        logits.shape[1],
        width=len(weight),
        dropout=0,
        head_dropout=0,
    )
    module.train(golden.meta["mode"].startswith("train"))

    def run(network: nn.Module, x: Arrays) -> Arrays:
        audio = cast(AudioCNN, network)
        features = audio.body(audio.stem(x["mfcc"]))
        return {"logits": audio.head(features), "features": features.flatten(1)}

    return Built(module, run).load(golden)


def fusion(golden: Golden) -> Built:
    """A fusion module of the NTU network."""
    c = golden.config
    module = SplitAttention(
        c["in_channels"],
        c["block_channel"],
        reduction=c["reduction_factor"],
        floor=c["lowest_atten"],
        block_dropout=c["block_dropout"],
        num_segments=c["split_block"],
    )

    def run(network: nn.Module, x: Arrays) -> Arrays:
        outputs = network([x[f"x{k}"] for k in range(len(c["in_channels"]))])
        return {f"x{k}": output for k, output in enumerate(outputs)}

    zero = [name for name in golden.group("param") if name.endswith("joint_features.0.bias")]
    return Built(module, run, fusion_name, zero).load(golden)


def rule_value(key: str, shape: tuple[int, ...], seed: int) -> Tensor:
    """A parameter of the two-branch network, by ``meta.rule``: float32 values."""
    state = np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF)
    u = state.randint(-127, 128, size=int(np.prod(shape))).reshape(shape) / 127
    if len(shape) > 1:
        value = u * np.sqrt(6 / np.prod(shape[1:]))
    elif key.endswith("weight"):
        value = 1 + 0.25 * u
    else:
        value = 0.1 * u
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def two_branch(golden: Golden, **options: Any) -> MSAFRavdess:
    """The RAVDESS network in training mode with the parameters of the file's rule."""
    video, audio = golden.config["video"], golden.config["audio input"]
    channels, size = golden.config["video input"][1], video["sample_size"]
    config = MSAFRavdessConfig(
        **{
            "frame_size": size,
            "channels": channels,
            "frames": video["sample_duration"],
            "audio_steps": audio[2],
            "cardinality": video["cardinality"],
            "stem_relu": False,
            "audio_dropout": 0,
            "audio_head_dropout": 0,
            "block_dropout": 0,
            "augment": "none",
            **options,
        }
    )
    sizes = {"video": channels * size * size, "audio": audio[1]}
    model = MSAFRavdess(config, DataSpec(sizes, "classification", video["num_classes"]))
    parameters = dict(model.named_parameters())
    assert {official_to_ours(key) for key in golden.meta["keys"]} == set(parameters)
    with torch.no_grad():
        for key in golden.meta["keys"]:
            parameter = parameters[official_to_ours(key)]
            parameter.copy_(rule_value(key, tuple(parameter.shape), golden.meta["rule_seed"]))
    return model.to(golden.dtype)


def two_branch_batch(golden: Golden) -> tuple[Tensor, Tensor, MultimodalBatch]:
    """Video (B, 3, T, H, W), MFCC (B, 13, T), both with gradients, and the batch made of them."""
    scale = golden.config["input_scale"]
    inputs = golden.group("in")
    video = (inputs["video_int8"].to(golden.dtype) * scale).requires_grad_()
    mfcc = (inputs["mfcc_int8"].to(golden.dtype) * scale).requires_grad_()
    features = {"video": video.transpose(1, 2).flatten(2), "audio": mfcc.transpose(1, 2)}
    lengths = {m: torch.full((len(x),), x.shape[1]) for m, x in features.items()}
    return video, mfcc, MultimodalBatch(features, lengths, inputs["target"])


def key_file(path: Path) -> dict[str, Any]:
    """A file of names, shapes and counts."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
