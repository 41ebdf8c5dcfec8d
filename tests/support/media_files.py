"""Small video, sound and skeleton files, written by the tests themselves."""

from __future__ import annotations

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def grey_steps(count: int, height: int, width: int) -> NDArray[np.uint8]:
    """(count, height, width, 3) frames, each of one grey that grows from frame to frame."""
    greys = np.linspace(20, 235, count).astype(np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (count, height, width, 3)).copy()


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    *,
    rate: int = 10,
    sound: NDArray[np.float32] | None = None,
    sound_rate: int = 44_100,
    sound_codec: str = "aac",
) -> Path:
    """Frames (T, H, W, 3), H and W even, and a sound track (samples,) in [-1, 1]."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        track: Any = None
        if sound is not None:
            track = container.add_stream(sound_codec, rate=sound_rate, layout="mono")
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
        if sound is not None:
            whole = (sound * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="mono")
            frame.sample_rate = sound_rate
            container.mux(track.encode(frame))
            container.mux(track.encode())
    return path


def write_wav(path: Path, sound: NDArray[np.float32], rate: int = 44_100) -> Path:
    """Samples (N,) or (N, channels) in [-1, 1] as 16 bit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1 if sound.ndim == 1 else sound.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return path


def chirp(seconds: float, rate: int = 44_100, seed: int = 0) -> NDArray[np.float32]:
    """A rising tone with noise."""
    time = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(seed).standard_normal(len(time))
    return (0.5 * np.sin(2 * np.pi * (200 + 300 * time) * time) + 0.05 * noise).astype(np.float32)


def skeleton_text(frames: Sequence[Sequence[NDArray[np.float64]]]) -> str:
    """The text of a ``.skeleton`` file: for each frame its bodies, each (25, 3)."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for number, body in enumerate(bodies):
            lines += [f"7205759403792{number:04d} 0 1 1 1 1 0 0.1 -0.2 2", str(len(body))]
            lines += [
                " ".join(f"{value:.6f}" for value in joint) + " 250.1 210.2 990 512 0 0 0 1 2"
                for joint in body
            ]
    return "\n".join(lines) + "\n"


def write_skeleton(path: Path, frames: Sequence[Sequence[NDArray[np.float64]]]) -> Path:
    """A ``.skeleton`` file of these frames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(skeleton_text(frames), encoding="ascii")
    return path
