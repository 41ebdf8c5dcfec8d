"""Named configurations of MMMIE. All are ours: the abstract gives no setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "default": {"train": _TRAIN},
    "sensors": {"model": {"frontend_size": 64, "classifier_dropout": 0.3}},
}
