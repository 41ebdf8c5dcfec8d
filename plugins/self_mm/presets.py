"""Named configurations of Self-MM: the released code's for MOSI, corrected and as released."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The released code adds the gradients of four batches, this one takes their mean; Adam does not
# see the difference. Its rates go from 5e-5 (BERT) to 5e-3 by group; here there is one.
_PROTOCOL: dict[str, Any] = {
    "batch_size": 32,
    "accumulate": 4,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "patience": 8,
    "loss": "l1",
}
_SIZES: dict[str, Any] = {
    "main": "text",
    "main_vector": "first",
    "recurrent_size": {"audio": 16, "vision": 32},
    "vector_size": {"audio": 16, "vision": 32},
    "fusion_size": 128,
    "label_range": 3.0,
}

# Ours, for sensor streams and features of few people.
_SENSORS: dict[str, Any] = {
    "encoder": "conv_bilstm",
    "vector_size": 64,
    "encoder_dropout": 0.2,
    "head_dropout": 0.3,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "mosi": {"model": _SIZES, "train": _PROTOCOL},
    "sensors": {"model": _SENSORS},
    "released": {"model": {**_SIZES, "labels": "released"}, "train": _PROTOCOL},
}
