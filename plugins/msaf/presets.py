"""Named configurations of MSAF: the released CMU-MOSEI network, corrected or not, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The released training script. It has no early stopping and keeps every epoch; the harness selects
# by the validation loss.
PROTOCOL: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 16,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "loss": "mse",
    "patience": None,
}

_MOSEI: dict[str, Any] = {
    "hidden_size": {"vision": 32, "audio": 64, "text": 128},
    "block_size": 16,
    "reduction": 2,
    "block_dropout": 0.2,
    "attention_floor": 0.0,
    "num_segments": 5,
}

# Ours, for raw sensor streams and few people: a convolution shortens the sequences, layers run both
# ways and are pooled over time; a floor keeps features alive that attention would shrink to one
# over the number of blocks.
_SENSORS: dict[str, Any] = {
    "hidden_size": 64,
    "bidirectional": True,
    "attention_floor": 0.8,
    "frontend_size": 64,
    "pooling": "attention_max",
    "classifier_dropout": 0.3,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "mosei": {"model": _MOSEI, "train": PROTOCOL},
    "released": {
        "model": {**_MOSEI, "lengths": "padded", "block_dropout_mode": "released"},
        "train": PROTOCOL,
    },
    "sensors": {"model": _SENSORS},
}
