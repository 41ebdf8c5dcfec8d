"""Objectives that a method trains in alternation with its main one."""

from __future__ import annotations

import torch
from torch import nn

from fusionkit.errors import PluginError
from fusionkit.registry.method import AuxiliaryObjective, Method

_TAKEN = frozenset({"loss"})


class Auxiliary:
    """The auxiliary objectives of a model, and what is left for the main one.

    Attributes:
        objectives: name -> objective, in the method's order.
        parameters: name -> its parameters.
        optimizers: one Adam for each.
        main: the parameters that are trained and that no auxiliary objective has.

    Raises:
        PluginError: a name twice, no parameters, or parameters of two objectives.
    """

    def __init__(self, method: Method, model: nn.Module) -> None:
        found = [] if method.auxiliary is None else list(method.auxiliary(model))
        self.objectives: dict[str, AuxiliaryObjective] = {}
        self.parameters: dict[str, list[nn.Parameter]] = {}
        owner: dict[nn.Parameter, str] = {}
        for objective in found:
            name, where = objective.name, f"method {method.name!r}: auxiliary {objective.name!r}"
            if name in self.objectives or name in _TAKEN:
                raise PluginError(f"{where}: the name is taken; give every objective its own")
            parameters = [p for p in objective.parameters(model) if p.requires_grad]
            if not parameters:
                raise PluginError(f"{where} has no parameters to train")
            for parameter in parameters:
                if parameter in owner:
                    raise PluginError(f"{where} shares a parameter with {owner[parameter]!r}")
                owner[parameter] = name
            self.objectives[name], self.parameters[name] = objective, parameters
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Adam(self.parameters[name], lr=o.learning_rate, weight_decay=o.weight_decay)
            for name, o in self.objectives.items()
        ]
        self.main = [p for p in model.parameters() if p.requires_grad and p not in owner]

    def of(self, when: str) -> list[str]:
        """Names of the objectives that are trained at every ``step`` or ``epoch``."""
        return [name for name, o in self.objectives.items() if o.when == when]
