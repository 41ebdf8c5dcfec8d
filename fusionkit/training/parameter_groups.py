"""Which parameters the main optimizer trains at which rate and weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from fusionkit.errors import FusionKitError, PluginError
from fusionkit.registry.method import Method, ParameterGroup
from fusionkit.training.auxiliary import Auxiliary
from fusionkit.training.config import TrainConfig

MAX_FACTOR = 1e4
"""Largest factor of a rate, and largest weight decay: beyond, steps would leave float32."""


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
    groups = _groups(method, model)
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
        own = [p for p in dict.fromkeys(_parameters(group, where)) if p.requires_grad]
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


def _groups(method: Method, model: nn.Module) -> list[ParameterGroup]:
    if method.parameter_groups is None:
        return []
    where = f"method {method.name!r}: parameter_groups"
    try:
        found: Any = method.parameter_groups(model)
    except FusionKitError:
        raise
    except Exception as error:
        raise PluginError(f"{where} failed: {type(error).__name__}: {error}") from error
    if not isinstance(found, Sequence) or not all(isinstance(g, ParameterGroup) for g in found):
        kinds = {type(x).__name__ for x in found} if isinstance(found, list) else set()
        given = f"a list of {', '.join(sorted(kinds))}" if kinds else type(found).__name__
        raise PluginError(f"{where} gives {given}; it has to be a list of ParameterGroup")
    return list(found)


def _parameters(group: ParameterGroup, where: str) -> list[nn.Parameter]:
    found: Any = group.parameters
    # A parameter is iterable too, row by row.
    if isinstance(found, Tensor) or not isinstance(found, Iterable):
        raise PluginError(f"{where}: parameters has to be a list, not {type(found).__name__}")
    parameters = list(found)
    for parameter in parameters:
        if not isinstance(parameter, nn.Parameter):
            raise PluginError(
                f"{where} holds {type(parameter).__name__} in place of a parameter; take them from "
                "model.parameters()"
            )
    return parameters


def _check(group: ParameterGroup, taken: set[str], where: str) -> None:
    if not group.name or group.name in taken:
        raise PluginError(f"{where}: the name is empty or taken; give every group its own")
    factor: Any = group.learning_rate
    if not (isinstance(factor, int | float) and 0 < factor <= MAX_FACTOR):
        raise PluginError(
            f"{where}: learning_rate is {factor!r}; it is a factor of train.learning_rate above 0, "
            f"at most {MAX_FACTOR:g}"
        )
    decay: Any = group.weight_decay
    if decay is not None and not (isinstance(decay, int | float) and 0 <= decay <= MAX_FACTOR):
        raise PluginError(
            f"{where}: weight_decay is {decay!r}; it is from 0 to {MAX_FACTOR:g}, or None"
        )
