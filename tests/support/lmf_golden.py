"""Golden files of LMF, and our network for them."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fusionkit import DataSpec
from fusionkit_plugins.lmf.checkpoint import official_to_ours
from fusionkit_plugins.lmf.config import LMFConfig
from fusionkit_plugins.lmf.model import LMF

from golden import Arrays, Built, Golden
from tfn_golden import run, sizes, subnetwork_options, summed_l1


def build(golden: Golden) -> Built:
    """Our network with the file's parameters, in the file's mode."""
    config = LMFConfig(
        **subnetwork_options(golden),
        rank=golden.config["rank"],
        softmax=golden.config["use_softmax"],
    )
    module = LMF(config, DataSpec(sizes(golden), "regression", golden.config["output_dim"]))
    module.train(not golden.meta["mode"].startswith("eval"))
    return Built(module, run, official_to_ours).load(golden)


def loss(golden: Golden, built: Built) -> Any:
    """The file's loss, summed over the batch."""
    if golden.meta["loss"].startswith("L1"):
        return summed_l1(golden, built)
    assert golden.meta["loss"].startswith("cross-entropy")

    def cross_entropy(module: nn.Module, inputs: Arrays) -> Tensor:
        outputs = built.run(module, inputs)["pred"]
        return F.cross_entropy(outputs, inputs["target"].long(), reduction="sum")

    return cross_entropy


def optimizer(golden: Golden, module: LMF) -> torch.optim.Optimizer:
    """Adam with one learning rate for the factors and one for all the rest."""
    options = golden.meta["optimizer"]
    rates = re.match(r"factor lr (\S+) .*; lr (\S+) for all others", options["groups"])
    assert rates is not None and float(rates[2]) == options["lr"] and options["name"] == "Adam"
    factors = list(module.fusion.factors)
    others = [p for p in module.parameters() if not any(p is f for f in factors)]
    return torch.optim.Adam(
        [{"params": factors, "lr": float(rates[1])}, {"params": others, "lr": float(rates[2])}],
        betas=options["betas"],
        eps=options["eps"],
        weight_decay=options["weight_decay"],
    )
