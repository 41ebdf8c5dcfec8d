"""Frames of video files, decoded by PyAV (extra ``media``), as flat features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.formats.optional_library import load_library
from fusionkit.errors import ConfigError, DataError

Frames = NDArray[np.uint8]
ChannelOrder = Literal["rgb", "bgr"]
Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge as fractions of the frame."""

# Mean and deviation of red, green and blue over ImageNet, of pixels in [0, 1].
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)
_TIME_TOLERANCE = 1e-6


def frames_at_times(
    path: Path, count: int, size: int, *, boxes: Sequence[Box] | None = None
) -> Frames:
    """The frames shown at k * duration / count for k = 0 .. count - 1.

    Args:
        count: at least 1. size: height and width, in pixels; the aspect is not kept.
        boxes: what to cut out of each of the ``count`` frames before it is resized.

    Returns:
        (count, 3, size, size), red, green and blue.

    Raises:
        DataError: the file cannot be decoded or does not say how long it is.
    """
    with open_media(path) as container:
        stream = _video_stream(container, path)
        times = np.arange(count) * (_duration(container, stream, path) / count)
        found: list[Frames] = []
        shown = None
        start = None
        for frame in _decoded(container, stream, path):
            if frame.time is None:
                raise DataError(f"{path}: a frame has no time; write the file anew, as mp4")
            start = frame.time if start is None else start
            while len(found) < count and shown is not None:
                if frame.time - start <= times[len(found)] + _TIME_TOLERANCE:
                    break
                found.append(_pixels(shown, size, None if boxes is None else boxes[len(found)]))
            shown = frame
        if shown is None:
            raise DataError(f"{path}: holds no video frame; replace or remove it")
        while len(found) < count:
            found.append(_pixels(shown, size, None if boxes is None else boxes[len(found)]))
    return np.stack(found)


def frames_by_index(path: Path, count: int, size: int, *, resized: int | None = None) -> Frames:
    """``count`` frames from the first to the last, equally spaced (rounded down to whole frames).

    Args:
        count: at least 1. size: height and width, in pixels.
        resized: size before the centre is cut out (default: ``size``, nothing is cut).

    Returns:
        (count, 3, size, size), red, green and blue.

    Raises:
        DataError: the file cannot be decoded.
    """
    whole = size if resized is None else resized
    margin = (whole - size) // 2
    with open_media(path) as container:
        stream = _video_stream(container, path)
        frames = [_pixels(frame, whole, None) for frame in _decoded(container, stream, path)]
    if not frames:
        raise DataError(f"{path}: holds no video frame; replace or remove it")
    chosen = np.linspace(0, len(frames) - 1, count).astype(np.int64)
    inside = slice(margin, margin + size)
    return np.stack([frames[k][:, inside, inside] for k in chosen])


def as_features(frames: Frames, order: ChannelOrder = "rgb") -> NDArray[np.float32]:
    """Pixels minus ImageNet's mean over its deviation, a flat vector a frame.

    Args:
        frames: (T, 3, H, W) red, green and blue.
        order: ``bgr`` puts blue first but leaves the statistics where they are, as released code
            that reads images with OpenCV does.

    Returns:
        (T, 3 * H * W).
    """
    pixels = frames[:, ::-1] if order == "bgr" else frames
    scaled = pixels.astype(np.float32) / np.float32(255)
    scaled = (scaled - IMAGENET_MEAN[:, None, None]) / IMAGENET_STD[:, None, None]
    return np.ascontiguousarray(scaled.reshape(len(frames), -1))


def check_memory(clips: int, frames: int, size: int, limit: float, where: str) -> None:
    """Refuse, before hours of decoding, what cannot be held.

    Args:
        clips, frames, size: clips of so many frames of so many pixels. limit: GB (10**9 bytes).

    Raises:
        ConfigError: three copies in float32, which preparing the data takes, are above ``limit``.
    """
    needed = 3 * 4 * clips * frames * 3 * size * size / 1e9
    if needed > limit:
        raise ConfigError(
            f"{where}: {clips} clips of {frames} frames at {size} x {size} take {needed:.1f} GB "
            f"while they are prepared, memory_limit is {limit:g}; lower data.frame_size or "
            "data.frames, or raise data.memory_limit if the machine has the memory"
        )


def open_media(path: Path) -> Any:
    """An open PyAV container; use it as a context manager.

    Raises:
        DataError: PyAV is missing, or the file is no video or sound.
    """
    av = load_library("av", "media", str(path))
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"{path}: cannot be opened ({error}); fetch the file again or remove it"
        ) from error


def _video_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise DataError(f"{path}: has no video; use a file with pictures or remove it")
    return container.streams.video[0]


def _decoded(container: Any, stream: Any, path: Path) -> Iterator[Any]:
    av = load_library("av", "media", str(path))
    count = 0
    try:
        for frame in container.decode(stream):
            yield frame
            count += 1
    except av.FFmpegError as error:
        raise DataError(
            f"{path}: frame {count} cannot be decoded ({error}); fetch the file again or remove it"
        ) from error


def _duration(container: Any, stream: Any, path: Path) -> float:
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None:
        return float(container.duration / 1_000_000)
    raise DataError(f"{path}: does not say how long it is; write it anew, as mp4")


def _pixels(frame: Any, size: int, box: Box | None) -> Frames:
    if box is not None:
        image = frame.to_ndarray(format="rgb24")
        left, top, right, bottom = (
            round(edge * side) for edge, side in zip(box, (frame.width, frame.height) * 2)
        )
        part = image[top : max(bottom, top + 1), left : max(right, left + 1)]
        frame = type(frame).from_ndarray(np.ascontiguousarray(part), format="rgb24")
    resized = frame.reformat(width=size, height=size, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.moveaxis(resized, -1, 0))
