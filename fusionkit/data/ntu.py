"""Source ``ntu``: actions in RGB video and skeletons, from the files of NTU RGB+D.

A sample is one recording; its files are found by the 20 characters of its name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fusionkit.data.assemble import assemble_dataset
from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.formats.ntu_skeleton import (
    JOINTS,
    PERSONS,
    ClipName,
    centred,
    parse_name,
    read_skeleton,
)
from fusionkit.data.formats.video_frames import (
    ChannelOrder,
    as_features,
    check_memory,
    frames_by_index,
)
from fusionkit.data.source import DataConfig
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import DataError

CITATION = (
    "Shahroudy, Liu, Ng, Wang: NTU RGB+D: A Large Scale Dataset for 3D Human Activity Analysis, "
    "CVPR 2016; released by its authors on request"
)
# The standard cross-subject protocol; all others are tested on.
TRAINING_SUBJECTS = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_SUFFIXES = {"rgb": ".avi", "skeleton": ".skeleton"}
# The published videos are resized to 256 and cut to 224.
_RESIZED, _CUT = 256, 224
Modality = Literal["rgb", "skeleton"]
Features = tuple[NDArray[np.float32], NDArray[np.int64]]


class NTUConfig(DataConfig):
    """Options of ``--data ntu:FOLDER``."""

    path: Path = Field(description="folder with the .avi and .skeleton files, at any depth")
    modalities: tuple[Modality, ...] = Field(
        ("rgb", "skeleton"), min_length=1, description="what to read of each recording"
    )
    classes: int = Field(60, ge=2, le=120, description="actions 1 to this number are used")
    exclude: Path | None = Field(
        None, description="text file with a recording's name a line: these are left out"
    )
    validation_subjects: tuple[int, ...] = Field(
        (2, 5, 9, 14), min_length=1, description="training subjects to validate on"
    )
    frames: int = Field(32, ge=1, description="video frames, equally spaced")
    frame_size: int = Field(
        112, ge=1, description="height and width of a frame in pixels (published: 224)"
    )
    channel_order: ChannelOrder = Field(
        "rgb", description="bgr, normalised by statistics of rgb, is what the released code has"
    )
    shift_absent: bool = Field(
        False, description="centring moves absent persons off zero, as the released code does"
    )
    memory_limit: float = Field(
        32.0, gt=0, description="GB that preparing the video frames may take"
    )

    @model_validator(mode="after")
    def _check(self) -> NTUConfig:
        foreign = sorted(set(self.validation_subjects) - set(TRAINING_SUBJECTS))
        if foreign:
            raise ValueError(
                f"validation_subjects: {foreign[0]} is no training subject of the cross-subject "
                f"protocol ({', '.join(map(str, TRAINING_SUBJECTS))})"
            )
        return self


def load_ntu(config: NTUConfig) -> MultimodalDataset:
    """The recordings of a folder, split by subject.

    A recording without a file, or whose skeleton file has no body, lacks that modality.

    Raises:
        DataError: the folder or a file cannot be used, or a library is missing. ConfigError: the
            frames would take more than ``memory_limit``.
    """
    where = str(config.path)
    files, names, left_out = _files(config)
    clips = sorted(names)
    features: dict[str, NDArray[np.float32]] = {}
    lengths: dict[str, NDArray[np.int64]] = {}
    for modality in config.modalities:
        paths = [files[modality].get(clip) for clip in clips]
        if modality == "rgb":
            features[modality], lengths[modality] = _rgb(config, paths, where)
        else:
            features[modality], lengths[modality] = _skeletons(config, paths)
    subjects = np.array([names[clip].subject for clip in clips], dtype=np.int64)
    store = SequenceStore(
        features=features,
        lengths=lengths,
        targets=np.array([names[clip].action - 1 for clip in clips], dtype=np.int64),
        ids=clips,
        groups=subjects,
    )
    spec = DataSpec(
        {m: flat.shape[1] for m, flat in features.items()},
        "classification",
        config.classes,
        class_names=tuple(f"A{k + 1:03d}" for k in range(config.classes)),
    )
    validation = np.isin(subjects, config.validation_subjects)
    training = np.isin(subjects, TRAINING_SUBJECTS) & ~validation
    splits: dict[Split, NDArray[np.int64]] = {
        "train": np.flatnonzero(training),
        "validation": np.flatnonzero(validation),
        "test": np.flatnonzero(~np.isin(subjects, TRAINING_SUBJECTS)),
    }
    return assemble_dataset(
        store,
        spec,
        splits,
        config,
        name=f"ntu:{config.path}",
        where=where,
        split_rule="cross-subject: the 20 standard subjects train, without "
        f"{', '.join(map(str, config.validation_subjects))}, who validate; all others test",
        source=CITATION,
        notes=[
            "the released code validates on test subjects 3, 6, 7 and 10; here training subjects "
            "validate",
            *left_out,
        ],
    )


def _files(
    config: NTUConfig,
) -> tuple[dict[str, dict[str, Path]], dict[str, ClipName], list[str]]:
    """Modality -> recording -> file; recording -> name; lines on what is left out."""
    if not config.path.is_dir():
        raise DataError(f"{config.path}: no such folder; give the one with NTU RGB+D's files")
    excluded = _excluded(config.exclude)
    files: dict[str, dict[str, Path]] = {m: {} for m in config.modalities}
    names: dict[str, ClipName] = {}
    dropped: set[str] = set()
    for path in sorted(config.path.rglob("*")):
        for modality in config.modalities:
            if path.suffix.lower() != _SUFFIXES[modality]:
                continue
            name = parse_name(path)
            if name.action > config.classes or name.clip in excluded:
                dropped.add(name.clip)
                continue
            other = files[modality].setdefault(name.clip, path)
            if other != path:
                raise DataError(
                    f"{path}: {other} is the {modality} of this recording too; remove one of them"
                )
            names[name.clip] = name
    if not names:
        wanted = " or ".join(_SUFFIXES[m] for m in config.modalities)
        raise DataError(
            f"{config.path}: no {wanted} of actions 1 to {config.classes} below it; unpack the "
            "archives there"
        )
    lines = [f"{len(dropped)} recordings are left out by data.exclude or data.classes"]
    return files, names, lines if dropped else []


def _excluded(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); correct data.exclude or leave it out"
        ) from error
    return frozenset(parse_name(Path(line.strip())).clip for line in lines if line.strip())


def _rgb(config: NTUConfig, paths: list[Path | None], where: str) -> Features:
    there = [path for path in paths if path is not None]
    check_memory(len(there), config.frames, config.frame_size, config.memory_limit, where)
    resized = round(config.frame_size * _RESIZED / _CUT)
    flat = np.empty((len(there) * config.frames, 3 * config.frame_size**2), np.float32)
    for k, path in enumerate(there):
        frames = frames_by_index(path, config.frames, config.frame_size, resized=resized)
        flat[k * config.frames : (k + 1) * config.frames] = as_features(
            frames, config.channel_order
        )
    counts = [0 if path is None else config.frames for path in paths]
    return flat, np.array(counts, dtype=np.int64)


def _skeletons(config: NTUConfig, paths: list[Path | None]) -> Features:
    size = 3 * JOINTS * PERSONS
    parts = [np.zeros((0, size), np.float32)]
    for path in paths:
        skeleton = np.zeros((0, 3, JOINTS, PERSONS), np.float32)
        if path is not None:
            skeleton = read_skeleton(path)
            # No body in any frame: the recording has no skeleton.
            skeleton = skeleton if skeleton.any() else skeleton[:0]
        parts.append(centred(skeleton, shift_absent=config.shift_absent).reshape(-1, size))
    lengths = np.array([len(part) for part in parts[1:]], dtype=np.int64)
    return np.concatenate(parts), lengths
