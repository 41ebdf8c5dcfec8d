"""Golden files of TFN, and our network for them; LMF's files have the same inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from fusionkit import DataSpec, MultimodalBatch
from fusionkit_plugins.tfn.checkpoint import MODALITIES, official_to_ours
from fusionkit_plugins.tfn.config import TFNConfig
from fusionkit_plugins.tfn.model import TFN

from golden import Arrays, Built, Golden, assert_close


def sizes(golden: Golden) -> dict[str, int]:
    return dict(zip(MODALITIES, golden.config["input_dims (audio, visual, text)"]))


def subnetwork_options(golden: Golden) -> dict[str, Any]:
    audio, visual, text = golden.config["hidden_dims (audio, visual, text LSTM)"]
    assert not any(golden.config["dropouts"])
    return {
        "recurrent": ("text",),
        "hidden_size": {"audio": audio, "visual": visual},
        "recurrent_hidden_size": text,
        "recurrent_output_size": golden.config["text_out"],
        "encoder_dropout": 0.0,
    }


def batch(inputs: Arrays) -> MultimodalBatch:
    """The official code takes means over time for audio and visual: one step here."""
    features = {
        "audio": inputs["audio"][:, None],
        "visual": inputs["visual"][:, None],
        "text": inputs["text"],
    }
    lengths = {m: torch.full((len(x),), x.shape[1]) for m, x in features.items()}
    return MultimodalBatch(features, lengths)


def run(module: nn.Module, inputs: Arrays) -> Arrays:
    return {"pred": module(batch(inputs))}


def build(golden: Golden) -> Built:
    """Our network with the file's parameters, in the file's mode.

    ``output_range`` and ``output_shift``, constants that the official code keeps among its
    parameters, are options of ours; they leave ``golden``.
    """
    constants = {name: golden.arrays.pop(f"param/output_{name}") for name in ("range", "shift")}
    for name, value in constants.items():
        trained = golden.arrays.pop(f"traj/param/output_{name}", value)
        assert trained == value
    low = constants["shift"].item()
    config = TFNConfig(
        **subnetwork_options(golden),
        post_fusion_size=golden.config["post_fusion_dim"],
        fusion_dropout=0.0,
        output_range=(low, low + constants["range"].item()),
    )
    module = TFN(config, DataSpec(sizes(golden), "regression", 1))
    module.train(golden.meta["mode"] != "eval")
    return Built(module, run, official_to_ours).load(golden)


def check_buffers_after(golden: Golden, built: Built) -> None:
    """Running statistics after exactly one forward pass in training."""
    wanted = golden.group("buffer_after")
    assert wanted
    built.run(built.module, golden.group("in"))
    buffers = dict(built.module.named_buffers())
    for name, want in wanted.items():
        relative = 1e-9 if golden.dtype == torch.float64 else 1e-5
        assert_close(name, buffers[built.name(name)], want, relative)


def summed_l1(golden: Golden, built: Built) -> Any:
    def loss(module: nn.Module, inputs: Arrays) -> Tensor:
        return (built.run(module, inputs)["pred"] - inputs["target"]).abs().sum()

    return loss
