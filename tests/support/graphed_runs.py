"""Small training runs for the tests of CUDA graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fusionkit as fk

QUIET: dict[str, Any] = {"hidden_size": 4, "encoder_dropout": 0.0}
"""Options of a small model without dropout."""


def train(folder: Path, method: str = "late_fusion", **options: Any) -> Any:
    """A run of three epochs on 63 synthetic samples, three batches each, the last one smaller."""
    options = {"model": QUIET, "data_options": {"samples": 90}, **options}
    common = {"epochs": 3, "batch_size": 24, "patience": None}
    options["train"] = {**common, **options.get("train", {})}
    return fk.train(method, "synthetic", out=folder, **options)


def losses(result: Any) -> list[list[float]]:
    """Training and validation loss and learning rate of every epoch."""
    keys = ("train_loss", "validation_loss", "learning_rate")
    return [[record[key] for key in keys] for record in result.history]
