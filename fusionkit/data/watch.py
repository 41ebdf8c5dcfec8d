"""Source ``watch``: shoulder exercises seen by a smartwatch, from the seglearn distribution.

Ten subjects did seven exercises on either side; each of the 140 recordings (50 Hz) holds twenty
repetitions and is cut into twenty equal parts, 2,800 samples of 47 to 130 frames. The task is to
name the exercise, for subjects that were not trained on.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fusionkit.data.assemble import assemble_dataset
from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.restricted_pickle import read_object_npy
from fusionkit.data.source import DataConfig
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import DataError

CITATION = (
    "Burns et al., Shoulder physiotherapy exercise recognition, arXiv:1802.01489; data in seglearn "
    "1.2.5 (BSD licence)"
)
PARTS = 20
_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
_CHANNELS = {"accelerometer": ["ax", "ay", "az"], "gyroscope": ["wx", "wy", "wz"]}


class WatchConfig(DataConfig):
    """Options of ``--data watch``."""

    fold: int = Field(
        0,
        ge=0,
        le=4,
        description="subjects 2*fold+1 and 2*fold+2 are the test split, the next two validation",
    )


def load_watch(config: WatchConfig) -> MultimodalDataset:
    """Ten subjects, split 6 / 2 / 2 by ``config.fold``.

    Raises:
        DataError: seglearn is not installed, or its file is not the one that is expected.
    """
    path = _locate()
    store, spec = _read(path)
    subject = np.asarray(store.groups)
    subjects = _fold_subjects(config.fold)
    splits = {name: np.flatnonzero(np.isin(subject, who)) for name, who in subjects.items()}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    notes = [] if digest == _SHA256 else [f"{path} is not the file of seglearn 1.2.5: {digest}"]
    return assemble_dataset(
        store,
        spec,
        splits,
        config,
        name="watch",
        where=str(path),
        split_rule=f"fold {config.fold} of 5 by subject: "
        + "; ".join(f"{name} {', '.join(map(str, who))}" for name, who in subjects.items()),
        source=CITATION,
        notes=notes,
    )


def _fold_subjects(fold: int) -> dict[Split, list[int]]:
    order = [(2 * fold + i) % 10 + 1 for i in range(10)]
    return {"train": sorted(order[4:]), "validation": sorted(order[2:4]), "test": order[:2]}


def _locate() -> Path:
    # find_spec does not run the package, which needs scikit-learn.
    found = importlib.util.find_spec("seglearn")
    if found is None or found.origin is None:
        raise DataError(
            "watch: the data come with seglearn, which is not installed; "
            "run pip install 'fusionkit-torch[demo]'"
        )
    return Path(found.origin).parent / "data" / "watch_dataset.npy"


def _read(path: Path) -> tuple[SequenceStore, DataSpec]:
    try:
        content: dict[str, Any] = read_object_npy(path).item()
        columns = {
            modality: [content["X_labels"].index(label) for label in labels]
            for modality, labels in _CHANNELS.items()
        }
        recordings = [np.asarray(x, dtype=np.float32) for x in content["X"]]
        subject = np.asarray(content["subject"], dtype=np.int64)
        exercise = np.asarray(content["y"], dtype=np.int64)
        names = tuple(content["y_labels"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: not the smartwatch data of seglearn 1.2.5 ({error}); install that version"
        ) from error
    parts = [part for x in recordings for part in _equal_parts(x)]
    flat = np.concatenate(parts)
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    store = SequenceStore(
        features={m: np.ascontiguousarray(flat[:, c]) for m, c in columns.items()},
        lengths=dict.fromkeys(columns, lengths),
        targets=np.repeat(exercise, PARTS),
        ids=[
            f"s{subject[r]:02d}-r{r:04d}-p{p:02d}"
            for r in range(len(recordings))
            for p in range(PARTS)
        ],
        groups=np.repeat(subject, PARTS),
    )
    spec = DataSpec(
        modalities={m: len(c) for m, c in columns.items()},
        task="classification",
        num_outputs=len(names),
        aligned=True,
        class_names=names,
    )
    return store, spec


def _equal_parts(recording: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Part p starts at floor(p T / 20), has floor(T / 20) frames; at most one is left between."""
    length = len(recording) // PARTS
    starts = [p * len(recording) // PARTS for p in range(PARTS)]
    return [recording[start : start + length] for start in starts]
