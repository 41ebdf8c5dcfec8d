"""Named configurations of LMF. The authors lost their hyper-parameters for MOSI: none are here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "released": {"model": {"lengths": "padded"}, "train": {"optimizer": "adam", "loss": "l1"}},
    "sensors": {
        "model": {"encoder": "conv_bilstm", "hidden_size": 64, "rank": 8},
    },
}
