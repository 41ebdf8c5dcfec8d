"""Named configurations of MMIM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The released training script, but for BERT's own learning rate: here its features are given.
PROTOCOL: dict[str, Any] = {
    "epochs": 40,
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "clip_norm": 1.0,
    "patience": 10,
    "loss": "l1",
}

# Ours, for sensor streams and features of few people.
_SENSORS: dict[str, Any] = {
    "encoder": "conv_bilstm",
    "encoder_dropout": 0.2,
    "encoder_size": 64,
    "dropout": 0.3,
}
_BERT: dict[str, Any] = {"main": "text", "main_encoder": "first"}
_DEFECTS: dict[str, Any] = {
    "first_layer_state": True,
    "bounded_log_variance": False,
    "log_variance_term": False,
    "entropy": "released",
    "cpc_one_activation": True,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "mosi": {"model": _BERT, "train": PROTOCOL},
    "mosei": {"model": _BERT, "train": PROTOCOL},
    "sensors": {"model": _SENSORS},
    "released": {"model": {**_BERT, **_DEFECTS}, "train": PROTOCOL},
}

ABLATIONS: Mapping[str, Mapping[str, Any]] = {
    "no contrastive terms": {"alpha": 0.0},
    "no bounds between modalities": {"beta": 0.0},
    "no entropy": {"entropy": "off"},
    "task loss only": {"alpha": 0.0, "beta": 0.0},
}
