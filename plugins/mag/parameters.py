"""Which parameters are trained with a weight decay of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from fusionkit import ParameterGroup
from fusionkit_plugins.mag.bert import GatedBert
from fusionkit_plugins.mag.model import MAG


def parameter_groups(model: nn.Module) -> Sequence[ParameterGroup]:
    """Biases and layer norms, without decay, unless ``decay_norms_and_biases``."""
    mag = cast(MAG | GatedBert, model)
    if mag.config.decay_norms_and_biases:
        return []
    spared = [
        parameter
        for module in mag.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, nn.LayerNorm) or name.startswith("bias")
    ]
    return [ParameterGroup("norms and biases", spared, weight_decay=0.0)]
