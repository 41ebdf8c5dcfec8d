"""Named training recipes: ours, and the same for every method that is compared with one.

A recipe says how to train and how the data are cut and prepared, never what the model is. The
one-cycle recipe was made on `watch` and UTD-MHAD with MMLatch (docs/results.md); no number in here
is a paper's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusionkit.errors import UnknownNameError

Recipe = Mapping[str, Mapping[str, Any]]

_ONE_CYCLE: dict[str, Any] = {
    "batch_size": 32,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "scheduler": "onecycle",
    "patience": None,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "input_noise": 0.05,
}

RECIPES: Mapping[str, Recipe] = {
    # The harness's defaults (TrainConfig), whatever a method would prefer.
    "default": {},
    "watch": {
        "train": {**_ONE_CYCLE, "epochs": 12, "learning_rate": 2e-3, "monitor": "accuracy"},
    },
    # People 1, 3, 5, 7 against 2, 4, 6, 8 is the data set's usual split.
    "utd-mhad": {
        "train": {**_ONE_CYCLE, "epochs": 40, "learning_rate": 4e-3},
        "data": {
            "target": "action",
            "group": "subject",
            "train_groups": [1, 3, 5, 7],
            "test_groups": [2, 4, 6, 8],
            "validation_fraction": 0.1,
            "centre": ["skeleton"],
            "deltas": True,
        },
    },
    # MFCC sequences and one vector of facial action units a clip. The noise, the last epoch and two
    # validation actors alone were chosen by cross-validation over actors 1 to 18 (docs/results.md).
    "ravdess": {
        "train": {
            **_ONE_CYCLE,
            "epochs": 30,
            "learning_rate": 4e-3,
            "input_noise": 0.8,
            "monitor": "last",
        },
        "data": {
            "modalities": ["audio", "vision_au"],
            "target": "emotion",
            "group": "actor",
            "validation_groups": [17, 18],
            "test_groups": [19, 20, 21, 22, 23, 24],
            "deltas": True,
        },
    },
    # Of `synthetic`: most of what can be known is in two modalities together and in neither alone.
    "synergy": {
        "train": {**_ONE_CYCLE, "epochs": 20, "learning_rate": 2e-3, "input_noise": 0.0},
        "data": {"samples": 3000, "redundancy": 0.5, "uniqueness": 0.5, "synergy": 4.0},
    },
    # The split is the file's; the monitored loss is the mean absolute error.
    "mmmo": {
        "train": {**_ONE_CYCLE, "epochs": 30, "learning_rate": 4e-3, "label_smoothing": 0.0},
        "data": {"target": "y", "task": "regression", "split": "split"},
    },
}


def find_recipe(name: str) -> Recipe:
    """The sections ``train`` and ``data`` of a recipe.

    Raises:
        UnknownNameError: there is none of this name.
    """
    if name not in RECIPES:
        raise UnknownNameError("recipe", name, RECIPES)
    return RECIPES[name]
