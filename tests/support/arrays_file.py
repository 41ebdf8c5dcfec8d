"""A small file in the plain-array layout, and its data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fusionkit.data.dataset import MultimodalDataset
from fusionkit.data.formats.arrays import NpzConfig, load_npz

COUNT = 24
SPEECH = "'speech' is not used: it is no numeric array (<U2)"
"""What is said of the file as it is."""


def arrays(**changed: Any) -> dict[str, Any]:
    """Content of a small file of every kind of array; None takes one away."""
    generator = np.random.default_rng(0)
    lengths = {m: generator.integers(1, 7, COUNT) for m in ("audio", "depth")}
    content = {
        "audio": generator.normal(4, 2, (lengths["audio"].sum(), 3)),
        "audio_len": lengths["audio"],
        "depth": generator.integers(0, 255, (lengths["depth"].sum(), 2, 5)).astype(np.uint8),
        "depth_len": lengths["depth"].astype(np.int32),
        "face": generator.standard_normal((COUNT, 4)),
        "action": np.arange(COUNT) % 3 + 1,
        "subject": np.arange(COUNT) // 4 + 1,
        "mood": generator.standard_normal(COUNT),
        "speech": np.array(["hi"] * COUNT),
        "speech_len": np.full(COUNT, 2),
    }
    content.update(changed)
    return {k: v for k, v in content.items() if v is not None}


def load(folder: Path, content: dict[str, Any] | None = None, **options: Any) -> MultimodalDataset:
    """Write the file and read it as a data set."""
    np.savez(folder / "my.npz", **(arrays() if content is None else content))
    return load_npz(NpzConfig(path=folder / "my.npz", **options))
