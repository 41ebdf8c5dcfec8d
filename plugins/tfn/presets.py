"""Named configurations of TFN: the released code's, and ours for raw sensor streams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The released script: Adam at its default rate, L1 loss (summed there, which Adam does not see).
_PROTOCOL: dict[str, Any] = {
    "batch_size": 32,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "patience": 20,
    "loss": "l1",
}
_SIZES: dict[str, Any] = {
    "recurrent": ["text"],
    "hidden_size": {"audio": 4, "vision": 16},
    "recurrent_hidden_size": 128,
    "recurrent_output_size": 64,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "mosi": {"model": _SIZES, "train": _PROTOCOL},
    "released": {
        "model": {**_SIZES, "lengths": "padded", "output_range": [-3.0, 3.0]},
        "train": _PROTOCOL,
    },
    "sensors": {
        "model": {"encoder": "conv_bilstm", "hidden_size": 16, "post_fusion_size": 128},
    },
}
