"""Named configurations of MMMIE. All are ours: the abstract gives no setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusionkit_plugins.mmlatch.presets import UTD_MHAD as SENSORS

_TRAIN: dict[str, Any] = {
    "epochs": 50,
    "batch_size": 32,
    "optimizer": "adamw",
    "weight_decay": 0.01,
    "learning_rate": 1e-3,
    "scheduler": "plateau",
    "patience": 10,
    "clip_norm": 1.0,
}

# The training and the data of MMLatch's preset, so that both are compared on equal terms.
UTD_MHAD: Mapping[str, Mapping[str, Any]] = {
    "model": {"frontend_size": 64, "classifier_dropout": 0.3},
    "train": SENSORS["train"],
    "data": SENSORS["data"],
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "default": {"train": _TRAIN},
    "utd-mhad": UTD_MHAD,
}
