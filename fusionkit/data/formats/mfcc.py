"""Mel-frequency cepstral coefficients of sound files, by librosa (extra ``media``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.formats.optional_library import load_library
from fusionkit.data.formats.video_frames import open_media
from fusionkit.errors import DataError


def read_mfcc(
    path: Path,
    *,
    sample_rate: int = 44_100,
    offset: float = 0.5,
    duration: float = 2.45,
    coefficients: int = 13,
) -> NDArray[np.float32]:
    """Coefficients of a part of a recording, with librosa's defaults (a step of 512 samples).

    Args:
        path: ``.wav``, or a video whose first sound track is taken; several channels are averaged.
        sample_rate: Hz; the sound is resampled to it. offset, duration: seconds.

    Returns:
        (T, coefficients); T is 212 with the defaults, fewer where the recording is shorter.

    Raises:
        DataError: a library is missing, the file cannot be read, or it ends before ``offset``.
    """
    librosa = load_library("librosa", "media", str(path))
    if path.suffix.lower() == ".wav":
        samples = _from_wav(librosa, path, sample_rate, offset, duration)
    else:
        sound = _from_video(path, sample_rate)
        first = round(offset * sample_rate)
        samples = sound[first : first + int(duration * sample_rate)]
    if not len(samples):
        raise DataError(f"{path}: the sound ends before {offset:g} s; remove the clip")
    found = librosa.feature.mfcc(y=samples, sr=sample_rate, n_mfcc=coefficients)
    return np.ascontiguousarray(found.T, dtype=np.float32)


def _from_wav(
    librosa: Any, path: Path, sample_rate: int, offset: float, duration: float
) -> NDArray[np.float32]:
    soundfile = load_library("soundfile", "media", str(path))
    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            file.seek(min(int(offset * rate), file.frames))
            channels = file.read(int(duration * rate), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as error:
        raise DataError(
            f"{path}: cannot be read as sound ({error}); fetch the file again or remove it"
        ) from error
    samples: NDArray[np.float32] = channels.mean(axis=1)
    if rate != sample_rate and len(samples):
        samples = librosa.resample(samples, orig_sr=rate, target_sr=sample_rate)
    return samples


def _from_video(path: Path, sample_rate: int) -> NDArray[np.float32]:
    av = load_library("av", "media", str(path))
    with open_media(path) as container:
        if not container.streams.audio:
            raise DataError(f"{path}: has no sound; put the .wav of the clip beside it")
        resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate)
        parts: list[NDArray[np.float32]] = []
        try:
            for frame in container.decode(audio=0):
                parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
        except av.FFmpegError as error:
            raise DataError(
                f"{path}: the sound cannot be decoded ({error}); fetch the file again or remove it"
            ) from error
    return np.concatenate([np.zeros(0, np.float32), *parts])
