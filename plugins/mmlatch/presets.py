"""Named configurations of MMLatch: the published ones, and ours for other data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Section 4 of the paper and the released configuration. The released code steps its scheduler
# twice an epoch, the first time with the training loss; here it is stepped once.
_PROTOCOL: dict[str, Any] = {
    "epochs": 100,
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 5e-4,
    "scheduler": "plateau",
    "patience": 10,
    "loss": "l1",
}
_SIZES: dict[str, Any] = {
    "hidden_size": 100,
    "encoder": "lstm",
    "encoder_layers": 1,
    "bidirectional": True,
    "encoder_dropout": 0.2,
    "mask": "lstm",
    "mask_includes_own": False,
    "mask_rnn_dropout": 0.1,
    "mask_dropout": 0.2,
    "fuser_dropout": 0.1,
}
# What the released pipeline does to CMU-MOSEI's features: no normalisation, NaN and absent
# modalities become zeros.
_RAW: dict[str, Any] = {"normalise": False, "nonfinite": "zero", "missing": "zeros"}

# Ours, for sensor streams and features of few people: a convolution before the encoders; the
# residual keeps the frames that the attention averages, and the scale keeps masked inputs as large
# as those of the first pass. Chosen on validation people (docs/results.md).
_SENSORS: dict[str, Any] = {
    "hidden_size": 64,
    "frontend_size": 64,
    "residual": True,
    "mask_scale": 2.0,
    "pooling": "max",
    "classifier_dropout": 0.3,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {"model": _SIZES, "train": _PROTOCOL},
    "mosei": {"model": _SIZES, "train": _PROTOCOL, "data": _RAW},
    "released": {
        "model": {
            **_SIZES,
            "lengths": "padded",
            "padding_in_fuser": True,
            "mask_dropout_at_eval": True,
        },
        "train": _PROTOCOL,
    },
    "sensors": {"model": _SENSORS},
}
