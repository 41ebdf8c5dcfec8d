"""Named configurations of MMTM on sequences: ours, as the paper has videos only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# For raw sensor streams and few people: a convolution shortens the sequences, layers run both ways
# and are pooled over time, gates start near 1.
_SENSORS: dict[str, Any] = {
    "hidden_size": 64,
    "bidirectional": True,
    "gate_scale": 2.0,
    "frontend_size": 64,
    "pooling": "attention_max",
    "classifier_dropout": 0.3,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "released": {"model": {"ratio": 4.0, "gate_scale": 1.0, "lengths": "padded"}},
    "sensors": {"model": _SENSORS},
}
