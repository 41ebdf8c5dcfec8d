"""RAVDESS: names, frames at their times, faces, cepstral coefficients, takes and folds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.data.formats.mfcc import read_mfcc
from fusionkit.data.formats.ravdess import EMOTIONS, parse_name, read_face_boxes
from fusionkit.data.formats.video_frames import as_features, frames_at_times
from fusionkit.data.ravdess import RavdessConfig, fold_actors, load_ravdess
from fusionkit.errors import ConfigError, DataError

from media_files import chirp, grey_steps, write_video, write_wav

_MISSING = [m for m in ("av", "librosa", "soundfile") if importlib.util.find_spec(m) is None]
needs_media = pytest.mark.skipif(
    bool(_MISSING), reason=f"{', '.join(_MISSING)} missing: install fusionkit-torch[media]"
)


def write_landmarks(path: Path, rows: int, box: tuple[float, float, float, float]) -> Path:
    """OpenFace's columns with the 68 points spread over a box (pixels of 1280 x 720)."""
    left, top, right, bottom = box
    values = np.zeros((rows, 500))
    values[:, 297:365] = np.linspace(left, right, 68)
    values[:, 365:433] = np.linspace(top, bottom, 68)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(f"c{k}" for k in range(500))]
    lines += [",".join(f"{v:g}" for v in row) for row in values]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_names() -> None:
    name = parse_name(Path("Actor_12/02-01-06-01-02-01-12.mp4"))
    assert (name.modality, name.song, name.actor) == (2, False, 12)
    assert (EMOTIONS[name.emotion], name.clip) == ("fearful", "01-06-01-02-01-12")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("01-01-09-01-01-01-01.mp4", "emotion 09, RAVDESS has 01 to 08"),
        ("01-01-01-01-01-01-25.mp4", "actor 25, RAVDESS has 01 to 24"),
        ("00-01-01-01-01-01-01.mp4", "modality 00"),
        ("01-01-01-01-01-01.mp4", "not MM-VV-EE-II-SS-RR-AA"),
        ("holiday.mp4", "not MM-VV-EE-II-SS-RR-AA"),
    ],
)
def test_wrong_names(name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_name(Path(name))


def test_folds_cover_all_actors_once() -> None:
    tested = [actor for fold in range(6) for actor in fold_actors(fold, 2)["test"]]
    assert tested == list(range(1, 25))
    for fold in range(6):
        parts = fold_actors(fold, 3)
        assert [len(parts[s]) for s in ("train", "validation", "test")] == [17, 3, 4]
        assert sorted(a for who in parts.values() for a in who) == list(range(1, 25))
    assert fold_actors(5, 2)["validation"] == [1, 2]


def test_face_boxes(tmp_path: Path) -> None:
    path = write_landmarks(tmp_path / "a.csv", 60, (320, 180, 960, 540))
    assert read_face_boxes(path, 30) == [(0.25, 0.25, 0.75, 0.75)] * 30


def test_rows_of_landmarks(tmp_path: Path) -> None:
    path = write_landmarks(tmp_path / "a.csv", 7, (0, 0, 1, 720))
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split(",") for line in lines]
    for k in range(7):
        rows[k + 1][297] = str(-10 * k)
        rows[k + 1][364] = str(128 * (k + 1))
    path.write_text("\n".join(",".join(row) for row in rows), encoding="utf-8")
    # ceil(k * 7 / 3) = 0, 3, 5
    assert [box[2] for box in read_face_boxes(path, 3)] == pytest.approx([0.1, 0.4, 0.6])
    assert all(box[0] == 0 for box in read_face_boxes(path, 3))


def test_an_untracked_face_keeps_the_frame(tmp_path: Path) -> None:
    path = write_landmarks(tmp_path / "a.csv", 3, (0, 0, 0, 0))
    assert read_face_boxes(path, 2) == [(0.0, 0.0, 1.0, 1.0)] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "line 2: 2 columns, at least 433"),
        ("a,b\n", "no row of landmarks"),
        ("h\n" + ",".join(["x"] * 500), "line 2: a landmark is no number"),
    ],
)
def test_wrong_landmarks(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_face_boxes(path, 2)


@needs_media
def test_frames_at_their_times(tmp_path: Path) -> None:
    frames = grey_steps(20, 32, 48)
    path = write_video(tmp_path / "a.mp4", frames, rate=10)
    # Two seconds: times 0, 0.4, ..., 1.6 are frames 0, 4, 8, 12, 16.
    found = frames_at_times(path, 5, 8)
    assert found.shape == (5, 3, 8, 8) and found.dtype == np.uint8
    wanted = frames[[0, 4, 8, 12, 16], 0, 0, 0].astype(float)
    assert np.abs(found.mean(axis=(1, 2, 3)) - wanted).max() < 4  # frames differ by 11
    # More times than frames: each is shown as long as it lasts.
    twice = frames_at_times(path, 40, 8).mean(axis=(1, 2, 3))
    assert np.abs(twice - np.repeat(frames[:, 0, 0, 0], 2)).max() < 4


@needs_media
def test_boxes_cut_before_resizing(tmp_path: Path) -> None:
    frames = np.zeros((4, 64, 96, 3), np.uint8)
    frames[:, 32:, 48:] = (200, 40, 90)
    path = write_video(tmp_path / "a.mp4", frames)
    found = frames_at_times(path, 2, 8, boxes=[(0.55, 0.55, 0.95, 0.95), (0.0, 0.0, 0.45, 0.45)])
    assert np.abs(found[0].mean(axis=(1, 2)) - (200, 40, 90)).max() < 12
    assert found[1].mean() < 8


def test_features_of_frames() -> None:
    frames = np.zeros((2, 3, 1, 1), np.uint8)
    frames[0, :, 0, 0] = (255, 0, 51)
    wanted = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert as_features(frames)[0] == pytest.approx(wanted, abs=1e-5)
    swapped = [(0.2 - 0.485) / 0.229, (0 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    assert as_features(frames, "bgr")[0] == pytest.approx(swapped, abs=1e-5)


@needs_media
def test_mfcc(tmp_path: Path) -> None:
    import librosa

    sound = chirp(3.2)
    path = write_wav(tmp_path / "a.wav", sound)
    found = read_mfcc(path)
    assert found.shape == (212, 13)
    kept = np.round(sound[22050 : 22050 + int(2.45 * 44100)] * 32767) / 32768
    wanted = librosa.feature.mfcc(y=kept.astype(np.float32), sr=44100, n_mfcc=13).T
    assert np.abs(found - wanted).max() < 0.2  # the file holds 16 bits; values reach 400
    assert read_mfcc(write_wav(tmp_path / "b.wav", chirp(1.5))).shape == (87, 13)
    stereo = np.stack([sound, sound], axis=1)
    assert read_mfcc(write_wav(tmp_path / "c.wav", stereo)) == pytest.approx(found, abs=1e-2)
    # A track of a video, uncompressed here: the same samples.
    video = write_video(
        tmp_path / "d.mkv", grey_steps(32, 16, 16), sound=sound, sound_codec="pcm_s16le"
    )
    assert np.abs(read_mfcc(video) - found).max() < 0.05


@needs_media
def test_sound_of_another_rate(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", chirp(3.2, rate=48_000), rate=48_000)
    assert read_mfcc(path).shape == (212, 13)
    video = write_video(
        tmp_path / "d.mp4", grey_steps(32, 16, 16), sound=chirp(3.2, 48_000), sound_rate=48_000
    )
    assert read_mfcc(video).shape == (212, 13)


@needs_media
def test_broken_media(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 50)
    with pytest.raises(DataError, match=r"a\.mp4: cannot be opened"):
        frames_at_times(tmp_path / "a.mp4", 2, 8)
    (tmp_path / "a.wav").write_bytes(b"no sound")
    with pytest.raises(DataError, match=r"a\.wav: cannot be read as sound"):
        read_mfcc(tmp_path / "a.wav")
    with pytest.raises(DataError, match=r"ends before 0\.5 s"):
        read_mfcc(write_wav(tmp_path / "b.wav", chirp(0.3)))
    with pytest.raises(DataError, match="has no sound"):
        read_mfcc(write_video(tmp_path / "c.mp4", grey_steps(5, 16, 16)))
    with pytest.raises(DataError, match="has no video"):
        frames_at_times(tmp_path / "b.wav", 2, 8)


def test_missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"needs av.*fusionkit-torch\[media\]"):
        frames_at_times(tmp_path / "a.mp4", 2, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two takes of eight actors: one file with both, and video and sound apart."""
    for actor in range(1, 9):
        frames, sound = grey_steps(30, 32, 48), chirp(2.0, seed=actor)
        at = tmp_path / f"Actor_{actor:02d}"
        write_video(at / f"01-01-05-01-01-01-{actor:02d}.mp4", frames, sound=sound)
        write_video(at / f"02-01-05-01-01-01-{actor:02d}.mp4", frames)
        write_video(at / f"02-01-03-01-01-01-{actor:02d}.mp4", frames)
        write_wav(at / f"03-01-03-01-01-01-{actor:02d}.wav", sound)
        write_wav(at / f"03-02-03-01-01-01-{actor:02d}.wav", sound)
    write_landmarks(tmp_path / "faces" / "01-01-05-01-01-01-03.csv", 30, (320, 180, 960, 540))
    return tmp_path


def load(folder: Path, **options: Any) -> Any:
    options = {"normalise": False, "frame_size": 8, "frames": 6, **options}
    return load_ravdess(RavdessConfig(path=folder, **options))


@needs_media
def test_source(folder: Path) -> None:
    data = load(folder)
    assert dict(data.spec.modalities) == {"video": 3 * 8 * 8, "audio": 13}
    assert data.spec.class_names == EMOTIONS
    assert [len(s) for s in (data.train, data.validation, data.test)] == [4, 4, 8]
    assert set(np.asarray(data.test.groups).tolist()) == {1, 2, 3, 4}
    assert set(np.asarray(data.validation.groups).tolist()) == {5, 6}
    assert data.test.ids[:2] == ["01-03-01-01-01-01", "01-03-01-01-01-02"]
    assert np.asarray(data.test.targets).tolist() == [2] * 4 + [4] * 4
    assert data.test.sequence("video", 0).shape == (6, 192)
    assert data.test.sequence("audio", 0).shape == (1 + int(1.5 * 44100) // 512, 13)
    assert any("1 of 16 videos" in note for note in data.notes)
    assert any("validates on the test actors" in note for note in data.notes)


@needs_media
def test_one_modality(folder: Path) -> None:
    data = load(folder, modalities=["audio"], fold=1, validation_actors=18)
    assert dict(data.spec.modalities) == {"audio": 13}
    assert set(np.asarray(data.test.groups).tolist()) == {5, 6, 7, 8}


@needs_media
def test_what_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"memory_limit is 0.0001; lower data.frame_size"):
        load(folder, memory_limit=1e-4)
    with pytest.raises(DataError, match="take 02-03-01-01-01-01 has no video; add 01-02-03"):
        load(folder, vocal="song")
    (folder / "Actor_02" / "03-01-03-01-01-01-02.wav").unlink()
    with pytest.raises(DataError, match="take 01-03-01-01-01-02 has no audio"):
        load(folder)
    with pytest.raises(DataError, match="no such folder"):
        load(folder / "nowhere")
    with pytest.raises(DataError, match=r"data\.landmarks"):
        load(folder, modalities=["video"], landmarks=folder / "nowhere")
    with pytest.raises(DataError, match=r"no \.mp4 or \.wav of RAVDESS"):
        load(folder / "faces")
