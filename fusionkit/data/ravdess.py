"""Source ``ravdess``: emotions of actors in video and voice, from the data set's own files.

A sample is one take. Its video is ``01-*.mp4`` (with sound) or else ``02-*.mp4``; its sound is the
``.wav`` of the same take or else the track of ``01-*.mp4``. ``.csv`` files of landmarks, where they
are there, say what to cut out of each frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from fusionkit.data.assemble import assemble_dataset
from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.formats.mfcc import read_mfcc
from fusionkit.data.formats.ravdess import EMOTIONS, ClipName, parse_name, read_face_boxes
from fusionkit.data.formats.video_frames import (
    ChannelOrder,
    as_features,
    check_memory,
    frames_at_times,
)
from fusionkit.data.source import DataConfig
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import DataError

CITATION = (
    "Livingstone, Russo: The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS), "
    "PLOS ONE 13(5), 2018, zenodo 1188976; its licence stands there"
)
ACTORS, FOLDS = 24, 6
_PER_FOLD = ACTORS // FOLDS
Modality = Literal["video", "audio"]


class RavdessConfig(DataConfig):
    """Options of ``--data ravdess:FOLDER``."""

    path: Path = Field(description="folder with the .mp4 and .wav files, at any depth")
    landmarks: Path | None = Field(
        None, description="folder with the FacialTracking .csv files (default: below path)"
    )
    modalities: tuple[Modality, ...] = Field(
        ("video", "audio"), min_length=1, description="what to read of each take"
    )
    vocal: Literal["speech", "song", "both"] = Field("speech", description="takes to use")
    fold: int = Field(
        0, ge=0, lt=FOLDS, description="actors 4*fold+1 to 4*fold+4 are the test split"
    )
    validation_actors: int = Field(
        2, ge=1, le=ACTORS - _PER_FOLD - 1, description="how many actors after those validate"
    )
    frames: int = Field(30, ge=1, description="video frames, at multiples of duration / frames")
    frame_size: int = Field(
        112, ge=1, description="height and width of a frame in pixels (published: 224)"
    )
    channel_order: ChannelOrder = Field(
        "rgb", description="bgr, normalised by statistics of rgb, is what the released code has"
    )
    memory_limit: float = Field(
        32.0, gt=0, description="GB that preparing the video frames may take"
    )


def load_ravdess(config: RavdessConfig) -> MultimodalDataset:
    """The takes of a folder, split by actor.

    Raises:
        DataError: the folder or a file cannot be used, or a library is missing. ConfigError: the
            frames would take more than ``memory_limit``.
    """
    where = str(config.path)
    takes = _takes(config)
    clips = sorted(takes)
    names = {clip: next(iter(takes[clip].values()))[1] for clip in clips}
    if "video" in config.modalities:
        check_memory(len(clips), config.frames, config.frame_size, config.memory_limit, where)
    boxes = _landmarks(config) if "video" in config.modalities else {}
    features: dict[str, NDArray[np.float32]] = {}
    lengths: dict[str, NDArray[np.int64]] = {}
    for modality in config.modalities:
        if modality == "video":
            features[modality], lengths[modality] = _video(config, takes, clips, boxes)
        else:
            features[modality], lengths[modality] = _audio(takes, clips)
    actors = np.array([names[clip].actor for clip in clips], dtype=np.int64)
    store = SequenceStore(
        features=features,
        lengths=lengths,
        targets=np.array([names[clip].emotion for clip in clips], dtype=np.int64),
        ids=clips,
        groups=actors,
    )
    spec = DataSpec(
        {m: flat.shape[1] for m, flat in features.items()},
        "classification",
        len(EMOTIONS),
        class_names=EMOTIONS,
    )
    members = fold_actors(config.fold, config.validation_actors)
    notes = ["the published protocol validates on the test actors; here training actors validate"]
    if "video" in config.modalities:
        cropped = sum(clip in boxes for clip in clips)
        notes.append(f"{cropped} of {len(clips)} videos have landmarks and are cut to the face")
    return assemble_dataset(
        store,
        spec,
        {split: np.flatnonzero(np.isin(actors, who)) for split, who in members.items()},
        config,
        name=f"ravdess:{config.path}",
        where=where,
        split_rule=f"fold {config.fold} of {FOLDS} by actor: "
        + "; ".join(f"{split} {', '.join(map(str, who))}" for split, who in members.items()),
        source=CITATION,
        notes=notes,
    )


def fold_actors(fold: int, validation_actors: int) -> dict[Split, list[int]]:
    """Actors of each split: four consecutive ones test, the next ones validate, the rest train."""
    order = [(_PER_FOLD * fold + k) % ACTORS + 1 for k in range(ACTORS)]
    last = _PER_FOLD + validation_actors
    return {
        "train": sorted(order[last:]),
        "validation": sorted(order[_PER_FOLD:last]),
        "test": order[:_PER_FOLD],
    }


Takes = Mapping[str, Mapping[str, tuple[Path, ClipName]]]
"""Take -> modality -> the file to read it from."""


def _takes(config: RavdessConfig) -> Takes:
    if not config.path.is_dir():
        raise DataError(f"{config.path}: no such folder; give the one with RAVDESS's files")
    found: dict[str, dict[str, tuple[int, Path, ClipName]]] = {}
    for path in sorted(config.path.rglob("*")):
        kind = path.suffix.lower()
        if kind not in (".mp4", ".wav"):
            continue
        name = parse_name(path)
        if config.vocal != "both" and name.song != (config.vocal == "song"):
            continue
        take = found.setdefault(name.clip, {})
        offers: dict[str, int] = {}
        if kind == ".wav":
            offers["audio"] = 0
        elif name.modality == 1:
            offers = {"video": 0, "audio": 1}
        elif name.modality == 2:
            offers["video"] = 1
        for modality, rank in offers.items():
            if modality not in take or rank < take[modality][0]:
                take[modality] = (rank, path, name)
    if not any(found.values()):
        raise DataError(
            f"{config.path}: no .mp4 or .wav of RAVDESS ({config.vocal}) below it; unpack the "
            "archives there, or change data.vocal"
        )
    for clip, take in found.items():
        missing = [m for m in config.modalities if m not in take]
        if missing:
            raise DataError(
                f"{config.path}: take {clip} has no {missing[0]}; add 01-{clip}.mp4"
                + (f" or 03-{clip}.wav" if missing[0] == "audio" else "")
                + ", remove the take's other files, or choose data.modalities"
            )
    return {
        clip: {m: (path, name) for m, (_, path, name) in take.items()}
        for clip, take in found.items()
    }


def _landmarks(config: RavdessConfig) -> dict[str, Path]:
    folder = config.landmarks or config.path
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; leave data.landmarks out or correct it")
    found: dict[str, Path] = {}
    # Those of video with sound come first in the order of names.
    for path in sorted(folder.rglob("??-??-??-??-??-??-??.csv")):
        found.setdefault(parse_name(path).clip, path)
    return found


def _video(
    config: RavdessConfig, takes: Takes, clips: list[str], boxes: Mapping[str, Path]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    size = 3 * config.frame_size**2
    flat = np.empty((len(clips) * config.frames, size), np.float32)
    for k, clip in enumerate(clips):
        face = read_face_boxes(boxes[clip], config.frames) if clip in boxes else None
        path = takes[clip]["video"][0]
        frames = frames_at_times(path, config.frames, config.frame_size, boxes=face)
        flat[k * config.frames : (k + 1) * config.frames] = as_features(
            frames, config.channel_order
        )
    return flat, np.full(len(clips), config.frames, dtype=np.int64)


def _audio(takes: Takes, clips: list[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    parts = [read_mfcc(takes[clip]["audio"][0]) for clip in clips]
    return np.concatenate(parts), np.array([len(part) for part in parts], dtype=np.int64)
