"""Which parameters the main optimizer trains at which rate and weight decay."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from fusionkit.errors import PluginError
from fusionkit.registry.method import Method, ParameterGroup
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.config import TrainConfig


def main_parameters(
    method: Method, model: nn.Module, auxiliary: Auxiliary, config: TrainConfig
) -> list[nn.Parameter] | list[dict[str, Any]]:
    """What `fusionkit.training.objective.build_optimizer` takes.

    The parameters of the main objective, or, where the method has groups, a dictionary for the rest
    and one for each group. The rest comes first even if it is empty: its rate is the one that the
    history shows.

    Raises:
        PluginError: a group without a name of its own, a rate or a weight decay that cannot be, or
            a parameter that is not the model's, in two groups, or an auxiliary objective's.
    """
    groups = [] if method.parameter_groups is None else list(method.parameter_groups(model))
    if not groups:
        return auxiliary.main
    names = {parameter: name for name, parameter in model.named_parameters()}
    owner = {p: f"auxiliary {name!r}" for name, ps in auxiliary.parameters.items() for p in ps}
    found: list[dict[str, Any]] = []
    taken: set[str] = set()
    for group in groups:
        where = f"method {method.name!r}: parameter group {group.name!r}"
        _check(group, taken, where)
        taken.add(group.name)
        own = [p for p in dict.fromkeys(group.parameters) if p.requires_grad]
        for parameter in own:
            if parameter not in names:
                raise PluginError(
                    f"{where} has a parameter of shape {tuple(parameter.shape)} that is not the "
                    "model's; take them from model.parameters()"
                )
            if parameter in owner:
                raise PluginError(
                    f"{where} shares {names[parameter]!r} with {owner[parameter]}; a parameter "
                    "has one rate, leave it out of one"
                )
            owner[parameter] = f"group {group.name!r}"
        decay = config.weight_decay if group.weight_decay is None else group.weight_decay
        rate = config.learning_rate * group.learning_rate
        found.append({"params": own, "lr": rate, "weight_decay": decay})
    return [{"params": [p for p in auxiliary.main if p not in owner]}, *found]


def _check(group: ParameterGroup, taken: set[str], where: str) -> None:
    if not group.name or group.name in taken:
        raise PluginError(f"{where}: the name is empty or taken; give every group its own")
    if not (group.learning_rate > 0 and math.isfinite(group.learning_rate)):
        raise PluginError(
            f"{where}: learning_rate is {group.learning_rate}; it is a factor of "
            "train.learning_rate above 0"
        )
    decay = group.weight_decay
    if decay is not None and not (decay >= 0 and math.isfinite(decay)):
        raise PluginError(f"{where}: weight_decay is {decay}; it is at least 0, or None")
