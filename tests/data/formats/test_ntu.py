"""NTU RGB+D: names, skeleton files, frames, and who is in which split."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from fusionkit.data.formats.ntu_skeleton import centred, parse_name, read_skeleton
from fusionkit.data.formats.video_frames import frames_by_index
from fusionkit.data.ntu import TRAINING_SUBJECTS, NTUConfig, load_ntu
from fusionkit.errors import ConfigError, DataError

from media_files import grey_steps, skeleton_text, write_skeleton, write_video

needs_av = pytest.mark.skipif(
    importlib.util.find_spec("av") is None,
    reason="av is missing: install fusionkit-torch[media]",
)
SUBJECTS = {1: "train", 2: "validation", 3: "test", 4: "train"}


def bodies(*counts: int, seed: int = 0) -> list[list[NDArray[np.float64]]]:
    """So many random bodies in each frame."""
    generator = np.random.default_rng(seed)
    return [[generator.uniform(-2, 3, (25, 3)).round(6) for _ in range(n)] for n in counts]


def test_names() -> None:
    name = parse_name(Path("a/S001C002P014R002A059_rgb.avi"))
    assert (name.camera, name.subject, name.action) == (2, 14, 59)
    assert name.clip == "S001C002P014R002A059"
    for wrong in ("S001C002P014R002.skeleton", "S001C002P000R002A059.avi", "x.avi"):
        with pytest.raises(DataError, match="does not begin with SsssCcccPpppRrrrAaaa"):
            parse_name(Path(wrong))


def test_skeleton_file(tmp_path: Path) -> None:
    frames = bodies(1, 3, 0, 2)
    found = read_skeleton(write_skeleton(tmp_path / "a.skeleton", frames))
    assert found.shape == (4, 3, 25, 2) and found.dtype == np.float32
    for t, each in enumerate(frames):
        for person in range(2):
            if person < len(each):
                assert found[t, :, :, person] == pytest.approx(each[person].T, abs=1e-6)
            else:
                assert not found[t, :, :, person].any()


def test_skeleton_of_no_frames(tmp_path: Path) -> None:
    assert read_skeleton(write_skeleton(tmp_path / "a.skeleton", [])).shape == (0, 3, 25, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: "\n".join(t.splitlines()[:20]), "ends after line 20, before joint 16 of body 0"),
        (lambda t: t.replace("2\n1\n", "two\n1\n", 1), "line 1: 'two' is not the number of frames"),
        (lambda t: t.replace("\n25\n", "\n24\n", 1), "line 4: 24 joints, there must be 25"),
        (lambda t: t.replace(" 250.1", "", 1).replace(".", "x", 4), "line 5: joint 0 of body 0"),
        (lambda t: "", "ends after line 0, before the number of frames"),
        (lambda t: t.replace("2\n1\n", "2\n-1\n", 1), "line 2: '-1' is not the number of bodies"),
    ],
)
def test_wrong_skeletons(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "a.skeleton"
    path.write_text(change(skeleton_text(bodies(1, 1))), encoding="ascii")
    with pytest.raises(DataError, match=message):
        read_skeleton(path)


def test_binary_skeletons_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.skeleton").write_bytes(bytes(range(128, 200)))
    with pytest.raises(DataError, match=r"a\.skeleton: cannot be read"):
        read_skeleton(tmp_path / "a.skeleton")


def test_centred() -> None:
    frames = bodies(2, 1)
    skeleton = np.zeros((2, 3, 25, 2), np.float32)
    for t, each in enumerate(frames):
        for person, body in enumerate(each):
            skeleton[t, :, :, person] = body.T
    moved = centred(skeleton)
    for t, each in enumerate(frames):
        assert not moved[t, :, 1, 0].any()
        for person, body in enumerate(each):
            assert moved[t, :, :, person] == pytest.approx((body - each[0][1]).T, abs=1e-5)
    assert not moved[1, :, :, 1].any()
    shifted = centred(skeleton, shift_absent=True)
    assert shifted[1, :, :, 1] == pytest.approx(
        np.repeat(-frames[1][0][1][:, None], 25, axis=1), abs=1e-5
    )
    assert np.array_equal(shifted[0], moved[0])


@needs_av
def test_frames_by_index(tmp_path: Path) -> None:
    frames = grey_steps(21, 32, 32)
    path = write_video(tmp_path / "a.avi", frames)
    found = frames_by_index(path, 5, 8).mean(axis=(1, 2, 3))
    # 0, 5, 10, 15, 20: the last frame is there, none is black.
    assert np.abs(found - frames[::5, 0, 0, 0]).max() < 4
    assert frames_by_index(path, 40, 8).shape == (40, 3, 8, 8)


@needs_av
def test_the_centre_is_cut(tmp_path: Path) -> None:
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    frames[:, 16:48, 16:48] = 200
    path = write_video(tmp_path / "a.avi", frames)
    assert frames_by_index(path, 1, 4, resized=16).min() > 170
    assert frames_by_index(path, 1, 16).min() < 30


def name_of(subject: int, action: int) -> str:
    return f"S001C001P{subject:03d}R001A{action:03d}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two actions of four subjects, skeletons only."""
    for subject in SUBJECTS:
        for action in (1, 60):
            frames = bodies(1, 2, 1, seed=subject * action)
            write_skeleton(tmp_path / "s" / f"{name_of(subject, action)}.skeleton", frames)
    return tmp_path


def load(folder: Path, **options: Any) -> Any:
    options = {"normalise": False, "frame_size": 8, "frames": 4, **options}
    return load_ntu(NTUConfig(path=folder, **options))


def test_source(folder: Path) -> None:
    data = load(folder, modalities=["skeleton"])
    assert dict(data.spec.modalities) == {"skeleton": 150} and data.spec.num_outputs == 60
    for split in ("train", "validation", "test"):
        wanted = {s for s, owner in SUBJECTS.items() if owner == split}
        assert set(np.asarray(data.split(split).groups).tolist()) == wanted
    assert np.asarray(data.test.targets).tolist() == [0, 59]
    path = folder / "s" / f"{name_of(3, 60)}.skeleton"
    # A frame is coordinates x joints x persons, flat.
    wanted_frames = centred(read_skeleton(path)).reshape(3, 150)
    assert np.array_equal(data.test.sequence("skeleton", 1), wanted_frames)
    assert any("here training subjects validate" in note for note in data.notes)
    assert len(TRAINING_SUBJECTS) == len(set(TRAINING_SUBJECTS)) == 20


@needs_av
def test_source_with_video(folder: Path) -> None:
    for subject in SUBJECTS:
        for action in (1, 60):
            write_video(folder / "v" / f"{name_of(subject, action)}_rgb.avi", grey_steps(9, 32, 48))
    data = load(folder)
    assert dict(data.spec.modalities) == {"rgb": 192, "skeleton": 150}
    assert data.test.sequence("rgb", 0).shape == (4, 192)
    with pytest.raises(ConfigError, match="8 clips of 4 frames at 8 x 8 take"):
        load(folder, memory_limit=1e-5)
    (folder / "v" / f"{name_of(4, 1)}_rgb.avi").unlink()
    with pytest.raises(DataError, match=f"{name_of(4, 1)}' has length 0 in 'rgb'"):
        load(folder)
    filled = load(folder, missing="zeros")
    absent = filled.train.ids.index(name_of(4, 1))
    assert not filled.train.sequence("rgb", absent).any()


def test_recordings_without_a_body(folder: Path) -> None:
    write_skeleton(folder / "s" / f"{name_of(4, 1)}.skeleton", bodies(0, 0))
    with pytest.raises(DataError, match="has length 0 in 'skeleton'"):
        load(folder, modalities=["skeleton"])
    bad = folder / "bad.txt"
    bad.write_text(name_of(4, 1) + "\n\n" + name_of(1, 1) + ".skeleton\n", encoding="utf-8")
    data = load(folder, modalities=["skeleton"], exclude=bad)
    assert data.train.ids == [name_of(1, 60), name_of(4, 60)]
    assert any("2 recordings are left out" in note for note in data.notes)


def test_other_actions_are_left_out(folder: Path) -> None:
    data = load(folder, modalities=["skeleton"], classes=59)
    assert data.spec.num_outputs == 59 and len(data.test) == 1


def test_what_is_wrong(folder: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        load(folder / "nowhere")
    with pytest.raises(DataError, match=r"no \.avi or \.skeleton of actions 1 to 60"):
        (folder / "empty").mkdir()
        load(folder / "empty")
    with pytest.raises(DataError, match=r"data\.exclude"):
        load(folder, exclude=folder / "nothing.txt")
    with pytest.raises(ValidationError, match="3 is no training subject"):
        NTUConfig(path=folder, validation_subjects=(2, 3))
    write_skeleton(folder / "t" / f"{name_of(1, 1)}.skeleton", bodies(1))
    with pytest.raises(DataError, match="is the skeleton of this recording too"):
        load(folder, modalities=["skeleton"])
