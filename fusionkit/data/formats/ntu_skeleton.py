"""File names and ``.skeleton`` files of NTU RGB+D (Shahroudy, Liu, Ng, Wang; CVPR 2016)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionkit.errors import DataError

JOINTS, PERSONS = 25, 2
_ORIGIN = 1
"""The joint in the middle of the spine, number 2 of the data set."""
_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})")


@dataclass(frozen=True)
class ClipName:
    """What a name SsssCcccPpppRrrrAaaa says: numbers from 1, and the 20 characters themselves."""

    setup: int
    camera: int
    subject: int
    repetition: int
    action: int
    clip: str


def parse_name(path: Path) -> ClipName:
    """Read a file name; what stands behind its 20 characters (``_rgb``) does not matter.

    Raises:
        DataError: it does not begin as the data set's names do, or a number is 0.
    """
    match = _NAME.match(path.name)
    numbers = [int(part) for part in match.groups()] if match else []
    if not match or 0 in numbers:
        raise DataError(
            f"{path}: the name does not begin with SsssCcccPpppRrrrAaaa, numbers from 001; rename "
            "the file as NTU RGB+D does, or move it out of the folder"
        )
    setup, camera, subject, repetition, action = numbers
    return ClipName(setup, camera, subject, repetition, action, match[0])


def read_skeleton(path: Path) -> NDArray[np.float32]:
    """Joint positions of a ``.skeleton`` file.

    The text holds the number of frames; for each frame the number of bodies; for each body a line
    about it, the number of joints, and a line a joint that begins with x, y and z. Bodies after the
    second are ignored.

    Returns:
        (T, 3, 25, 2) in metres: coordinates, joints, persons. An absent person is zeros.

    Raises:
        DataError: the file ends too early, or a line is not what it should be.
    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); fetch the file again") from error
    reader = _Lines(path, lines)
    frames = reader.count("frames")
    found = np.zeros((frames, 3, JOINTS, PERSONS), np.float32)
    for frame in range(frames):
        for body in range(reader.count(f"bodies of frame {frame}")):
            reader.text(f"the line about body {body} of frame {frame}")
            joints = reader.count(f"joints of body {body} of frame {frame}")
            if joints != JOINTS:
                raise reader.error(f"{joints} joints, there must be {JOINTS}")
            for joint in range(JOINTS):
                position = reader.position(f"joint {joint} of body {body} of frame {frame}")
                if body < PERSONS:
                    found[frame, :, joint, body] = position
    return found


def centred(skeleton: NDArray[np.float32], *, shift_absent: bool = False) -> NDArray[np.float32]:
    """Positions from the first person's spine: its joint 2 is subtracted in every frame.

    Args:
        skeleton: (T, 3, 25, 2). shift_absent: subtract it from absent persons too, who are zeros
            before (released code), or leave them at zero.

    Returns:
        The same shape.
    """
    moved = skeleton - skeleton[:, :, _ORIGIN : _ORIGIN + 1, :1]
    if shift_absent:
        return moved
    present = skeleton.any(axis=(1, 2), keepdims=True)
    return np.where(present, moved, np.float32(0))


class _Lines:
    """Lines of a file one after another, and errors that name the line."""

    def __init__(self, path: Path, lines: Sequence[str]) -> None:
        self.path, self.lines, self.number = path, lines, 0

    def error(self, what: str) -> DataError:
        """An error at the line that was read last."""
        return DataError(f"{self.path}, line {self.number}: {what}; fetch the file again")

    def text(self, what: str) -> str:
        """The next line."""
        if self.number >= len(self.lines):
            raise DataError(
                f"{self.path}: ends after line {self.number}, before {what}; fetch the file again"
            )
        self.number += 1
        return self.lines[self.number - 1]

    def count(self, what: str) -> int:
        """The next line as a number of things."""
        text = self.text(f"the number of {what}").strip()
        if not text.isdecimal():
            raise self.error(f"{text[:40]!r} is not the number of {what}")
        return int(text)

    def position(self, what: str) -> list[float]:
        """x, y and z of the next line."""
        fields = self.text(what).split()
        try:
            position = [float(field) for field in fields[:3]]
        except ValueError:
            position = []
        if len(position) < 3:
            raise self.error(f"{what} does not begin with three numbers")
        return position
