"""Named configurations of MAG: the released script's, with and without a BERT, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The released script, without its rate of 1e-5 and its warm-up: they are for fine-tuning BERT.
_PROTOCOL: dict[str, Any] = {
    "epochs": 40,
    "batch_size": 48,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "learning_rate": 1e-3,
}
# With them, as near as the harness comes: the one cycle rises for 30 % of the steps, not 10 %.
_FINE_TUNING: dict[str, Any] = {
    **_PROTOCOL,
    "learning_rate": 1e-5,
    "scheduler": "onecycle",
    "patience": None,
}
_RELEASED: dict[str, Any] = {"beta": 1.0, "gate_dropout": 0.5, "decay_norms_and_biases": False}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "released": {"model": _RELEASED, "train": _PROTOCOL},
    # --set bert=FOLDER comes over it; without one the error tells what is asked for.
    "bert": {
        "model": {**_RELEASED, "bert": "FOLDER", "classifier_dropout": 0.1},
        "train": _FINE_TUNING,
        "data": {"normalise": False},
    },
    "sensors": {
        "model": {"encoder": "conv_bilstm", "gate_dropout": 0.2, "classifier_dropout": 0.3},
    },
}
