"""Named configurations of MISA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The released training script. It halves the learning rate at the moment at which it stops, so
# there is no schedule.
PROTOCOL: dict[str, Any] = {
    "batch_size": 64,
    "optimizer": "adam",
    "learning_rate": 1e-4,
    "clip_value": 1.0,
    "patience": 6,
    "loss": "mse",
}

# Ours, for sensor streams and features of few people.
_SENSORS: dict[str, Any] = {
    "encoder": "conv_bilstm",
    "encoder_dropout": 0.2,
    "feedforward_size": 256,
    "dropout": 0.3,
}
_BERT: dict[str, Any] = {"encoder": {"text": "mean"}}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "mosi": {"model": _BERT, "train": PROTOCOL},
    "mosei": {"model": _BERT, "train": {**PROTOCOL, "batch_size": 16}},
    "sensors": {"model": _SENSORS},
    "released": {"model": {"cmd_gradient_at_equality": "nan"}, "train": PROTOCOL},
}

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "no difference": {"difference_weight": 0.0},
    "no similarity": {"similarity_weight": 0.0},
    "no reconstruction": {"reconstruction_weight": 0.0},
    "task loss only": {
        "difference_weight": 0.0,
        "similarity_weight": 0.0,
        "reconstruction_weight": 0.0,
    },
}
