"""Golden files of the released CLUB estimators, and ours for them, from each file's ``meta``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from fusionkit.nn.mutual_information import (
    CLUB,
    MINE,
    NWJ,
    CLUBForCategorical,
    CLUBMean,
    CLUBSample,
    Estimator,
    InfoNCE,
    L1Out,
    VarUB,
)

from golden import Arrays, Built, Golden

# The hidden layers of mean and log-variance have half the width that the class is given.
BUILDERS: dict[str, Callable[[dict[str, Any]], Estimator]] = {
    "CLUB": lambda c: CLUB(c["x_dim"], c["y_dim"], c["hidden_size"] // 2),
    "CLUBSample": lambda c: CLUBSample(c["x_dim"], c["y_dim"], c["hidden_size"] // 2),
    "CLUBMean": lambda c: CLUBMean(c["x_dim"], c["y_dim"], c["hidden_size"]),
    "CLUBForCategorical": lambda c: CLUBForCategorical(
        c["input_dim"], c["label_num"], c["hidden_size"]
    ),
    "L1OutUB": lambda c: L1Out(c["x_dim"], c["y_dim"], c["hidden_size"] // 2, released=True),
    "VarUB": lambda c: VarUB(c["x_dim"], c["y_dim"], c["hidden_size"] // 2, released=True),
    "InfoNCE": lambda c: InfoNCE(c["x_dim"], c["y_dim"], c["hidden_size"]),
    "NWJ": lambda c: NWJ(c["x_dim"], c["y_dim"], c["hidden_size"], released=True),
    "MINE": lambda c: MINE(c["x_dim"], c["y_dim"], c["hidden_size"]),
}

_PARTS = {
    "p_mu.": "conditional.mean.",
    "p_logvar.": "conditional.log_variance.",
    "F_func.0.": "critic.hidden.",
    "F_func.2.": "critic.output.",
    "T_func.0.": "critic.hidden.",
    "T_func.2.": "critic.output.",
    "variational_net.": "classifier.",
}


def class_of(golden: Golden) -> str:
    """Name of the released class."""
    return str(golden.meta["file"]).rsplit(" ", 1)[-1]


def our_name(official: str, released_class: str) -> str:
    """Name of a parameter of a released estimator in ours."""
    start = next(part for part in _PARTS if official.startswith(part))
    ours = _PARTS[start] + official.removeprefix(start)
    if released_class == "CLUBMean":
        ours = ours.removeprefix("conditional.")
    # A net without hidden layer is one Linear in the released code.
    return re.sub(r"^(mean|classifier)\.(weight|bias)$", r"\1.0.\2", ours)


def zero_gradients(golden: Golden) -> set[str]:
    """Last biases that shift all scores alike, and so do not change the value."""
    found, bound = class_of(golden), "mi" in golden.group("cot")
    starts = {"MINE": "T_func"}
    if bound:
        starts |= {"CLUBMean": "p_mu", "CLUBForCategorical": "variational_net"}
    if found not in starts:
        return set()
    names = [n for n in golden.group("param") if n.startswith(starts[found]) and "bias" in n]
    return {max(names)}


def build(golden: Golden) -> Built:
    """Our estimator with the file's parameters."""
    found = class_of(golden)

    def run(module: nn.Module, x: Arrays) -> dict[str, Tensor]:
        assert isinstance(module, Estimator)
        options: dict[str, Any] = {"index": x["index"]} if "index" in x else {}
        if "mi" in golden.group("out"):
            return {"mi": module(x["x"], x["y"], **options)}
        # CLUBSample draws nothing to fit its network.
        options = {} if found == "CLUBSample" else options
        return {"learning_loss": module.learning_loss(x["x"], x["y"], **options)}

    return Built(
        BUILDERS[found](golden.config),
        run,
        lambda name: our_name(name, found),
        zero_gradients(golden),
    ).load(golden)
