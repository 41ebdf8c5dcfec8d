"""File names and facial landmarks of RAVDESS (Livingstone, Russo; PLOS ONE 2018)."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np

from fusionkit.data.formats.video_frames import Box
from fusionkit.errors import DataError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
# What each field of a name may be, in their order.
_FIELDS = {
    "modality": 3,
    "vocal channel": 2,
    "emotion": len(EMOTIONS),
    "intensity": 2,
    "statement": 2,
    "repetition": 2,
    "actor": 24,
}
# 68 points in pixels of the published videos.
_POINTS, _FIRST_X, _FIRST_Y = 68, 297, 365
_WIDTH, _HEIGHT = 1280, 720


@dataclass(frozen=True)
class ClipName:
    """What a name MM-VV-EE-II-SS-RR-AA says.

    Args:
        modality: 1 video with sound, 2 video, 3 sound. song: sung, not spoken.
        emotion: index into `EMOTIONS`. actor: 1 to 24, odd numbers are men.
        clip: the name without its modality, the same for all files of a take.
    """

    modality: int
    song: bool
    emotion: int
    actor: int
    clip: str


def parse_name(path: Path) -> ClipName:
    """Read a file name.

    Raises:
        DataError: there are not seven numbers of two digits, or one is out of its range.
    """
    parts = path.stem.split("-")
    if len(parts) != len(_FIELDS) or any(len(p) != 2 or not p.isdecimal() for p in parts):
        raise DataError(
            f"{path}: the name is not MM-VV-EE-II-SS-RR-AA, seven numbers of two digits; rename "
            "the file as RAVDESS does, or move it out of the folder"
        )
    values = [int(part) for part in parts]
    for (name, most), value in zip(_FIELDS.items(), values):
        if not 1 <= value <= most:
            raise DataError(
                f"{path}: the name says {name} {value:02d}, RAVDESS has 01 to {most:02d}; rename "
                "the file or move it out of the folder"
            )
    modality, vocal, emotion, _, _, _, actor = values
    return ClipName(modality, vocal == 2, emotion - 1, actor, "-".join(parts[1:]))


def read_face_boxes(path: Path, count: int) -> list[Box]:
    """Bounding boxes of the 68 landmarks at ``count`` rows that lie n / count apart.

    The columns are those of the published OpenFace files: x from 297, y from 365, in pixels of
    1280 x 720, after one header row. A row where no face was tracked gives the whole frame.

    Raises:
        DataError: no row, too few columns, or no number where there should be one.
    """
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = list(csv.reader(file))[1:]
    rows = [row for row in rows if row]
    if not rows:
        raise DataError(f"{path}: has no row of landmarks; fetch the file again or remove it")
    chosen = [min(ceil(k * len(rows) / count), len(rows) - 1) for k in range(count)]
    return [_box(rows[index], f"{path}, line {index + 2}") for index in chosen]


def _box(row: list[str], where: str) -> Box:
    if len(row) < _FIRST_Y + _POINTS:
        raise DataError(
            f"{where}: {len(row)} columns, at least {_FIRST_Y + _POINTS} are needed; use the "
            "FacialTracking files of RAVDESS, or remove them"
        )
    try:
        points = np.array(row[_FIRST_X : _FIRST_Y + _POINTS], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{where}: a landmark is no number ({error}); correct the file") from None
    x = (points[:_POINTS] / _WIDTH).clip(0, 1)
    y = (points[_POINTS:] / _HEIGHT).clip(0, 1)
    box = (float(x.min()), float(y.min()), float(x.max()), float(y.max()))
    tracked = bool(np.isfinite(points).all()) and box[0] < box[2] and box[1] < box[3]
    return box if tracked else (0.0, 0.0, 1.0, 1.0)
