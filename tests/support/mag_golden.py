"""Golden files of MAG, and our gate for them."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from fusionkit_plugins.mag.checkpoint import OTHERS, official_to_ours
from fusionkit_plugins.mag.gate import MultimodalAdaptationGate

from golden import Arrays, Built, Golden


def build(golden: Golden) -> Built:
    """Our gate with the file's parameters, in the file's mode."""
    c = golden.config
    module = MultimodalAdaptationGate(
        c["TEXT_DIM"],
        {"visual": c["VISUAL_DIM"], "acoustic": c["ACOUSTIC_DIM"]},
        beta=c["beta_shift"],
        dropout=c["dropout_prob"],
    ).train(golden.meta["mode"] == "train")

    def run(module: nn.Module, x: Arrays) -> Arrays:
        return {"output": module(x["text_embedding"], {name: x[name] for name in OTHERS})}

    return Built(module, run, official_to_ours).load(golden)


def mse(module: nn.Module, built: Built, inputs: Arrays) -> Tensor:
    return (built.run(module, inputs)["output"] - inputs["target"]).square().mean()


def optimizer(golden: Golden, built: Built) -> torch.optim.Optimizer:
    """AdamW that leaves biases and the layer norm undecayed, as ``meta`` says."""
    options = golden.meta["optimizer"]
    decay = re.match(
        r"([\d.]+), but 0 for .* 'bias' or 'LayerNorm.weight'", options["weight_decay"]
    )
    assert options["name"] == "AdamW" and options["clipping"] is None and decay is not None
    ours = dict(built.module.named_parameters())
    groups: dict[bool, list[Tensor]] = {True: [], False: []}
    for name in golden.group("param"):
        groups["bias" not in name and "LayerNorm.weight" not in name].append(ours[built.name(name)])
    return torch.optim.AdamW(
        [
            {"params": groups[True], "weight_decay": float(decay[1])},
            {"params": groups[False], "weight_decay": 0.0},
        ],
        lr=options["lr"],
        betas=options["betas"],
        eps=options["eps"],
    )
