"""Named configurations of MAG: the released script's, and ours for raw sensor streams."""

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

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "released": {"model": {"beta": 1.0, "gate_dropout": 0.5}, "train": _PROTOCOL},
    "sensors": {
        "model": {"encoder": "conv_bilstm", "gate_dropout": 0.2, "classifier_dropout": 0.3},
    },
}
