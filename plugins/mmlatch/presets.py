"""Named configurations of MMLatch: the paper's, the released code's, and ours for real data."""

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
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {"train": _PROTOCOL},
    "released": {
        "model": {"lengths": "padded", "padding_in_fuser": True, "mask_dropout_at_eval": True},
        "train": _PROTOCOL,
    },
}
