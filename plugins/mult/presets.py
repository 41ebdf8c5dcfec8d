"""Named configurations of MulT: the released code's, corrected and as it is, and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The released code's defaults, which are its settings for unaligned CMU-MOSEI. Its scheduler,
# a tenth of the rate after 20 epochs without a better validation loss, can act once in 40 epochs;
# it is left out.
PROTOCOL: Mapping[str, Any] = {
    "epochs": 40,
    "batch_size": 24,
    "optimizer": "adam",
    "learning_rate": 1e-3,
    "clip_norm": 0.8,
    "patience": None,
}

# Ours, for raw sensor streams and few people, after the presets of MMLatch: the convolution
# shortens the sequences, and the memories are pooled over all their steps.
_SENSORS: Mapping[str, Any] = {
    "width": 32,
    "num_heads": 4,
    "num_layers": 2,
    "memory_layers": 1,
    "frontend_size": 64,
    "attention_dropout": 0.1,
    "input_dropout": 0.0,
    "embed_dropout": 0.1,
    "output_dropout": 0.3,
    "pooling": "max",
}
PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {"train": PROTOCOL},
    "mosei": {"train": PROTOCOL},
    "released": {
        "model": {"lengths": "padded", "positions": "released", "attn_mask": True},
        "train": PROTOCOL,
    },
    "sensors": {"model": _SENSORS},
}
