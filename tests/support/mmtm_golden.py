"""Golden files of MMTM, and our module for them: sizes and options come from each file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusionkit.nn.squeeze_excitation import SqueezeExcitationFusion
from fusionkit_plugins.mmtm.checkpoint import module_name

from golden import Arrays, Built, Golden

INPUTS = ("visual", "skeleton")


def build(golden: Golden) -> Built:
    """Our module with the file's parameters."""
    c = golden.config
    module = SqueezeExcitationFusion([c["dim_visual"], c["dim_skeleton"]], ratio=c["ratio"])

    def run(module: nn.Module, x: Arrays) -> Arrays:
        return dict(zip(INPUTS, module([x[name] for name in INPUTS])))

    return Built(module, run, module_name).load(golden)


def loss(module: nn.Module, x: Arrays) -> Tensor:
    """What the files' optimizers minimise."""
    outputs = module([x[name] for name in INPUTS])
    means = [out if out.dim() == 2 else out.flatten(2).mean(-1) for out in outputs]
    return F.mse_loss(torch.cat(means, dim=1), x["target"])
