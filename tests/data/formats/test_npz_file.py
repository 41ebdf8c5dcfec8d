"""Files are opened without pickles, and damaged ones are named."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from fusionkit.data.formats.npz_file import as_frames, read_lengths, read_npz
from fusionkit.errors import DataError


class _Command:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (self.command,)


def test_arrays_come_in_the_files_order(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "f.npz", b=np.arange(3), a=np.array(["x"]))
    arrays = read_npz(tmp_path / "f.npz")
    assert list(arrays) == ["b", "a"]
    assert arrays["b"].tolist() == [0, 1, 2]


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    bad = np.array([_Command(f"touch {witness}")], dtype=object)
    np.savez(tmp_path / "bad.npz", good=np.arange(2), labels=bad)
    with pytest.raises(DataError, match=r"bad\.npz: array 'labels' cannot be read .*numpy\.savez"):
        read_npz(tmp_path / "bad.npz")
    assert not witness.exists()


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz: no such file; check the path"):
        read_npz(tmp_path / "none.npz")
    np.save(tmp_path / "one.npy", np.arange(3))
    with pytest.raises(DataError, match=r"one\.npy: not an \.npz file"):
        read_npz(tmp_path / "one.npy")
    np.savez(tmp_path / "good.npz", x=np.arange(1000))
    content = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"short\.npz: not an \.npz file, or cut short"):
        read_npz(tmp_path / "short.npz")
    damaged = bytearray(content)
    damaged[500] ^= 255
    (tmp_path / "damaged.npz").write_bytes(damaged)
    with pytest.raises(DataError, match=r"damaged\.npz: array 'x' cannot be read"):
        read_npz(tmp_path / "damaged.npz")
    with zipfile.ZipFile(tmp_path / "words.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match=r"words\.npz: array 'readme.txt' cannot be read"):
        read_npz(tmp_path / "words.npz")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4,), (4, 1)), ((4, 3), (4, 3)), ((4, 2, 5), (4, 10)), ((0, 6), (0, 6))],
)
def test_frames_are_flat_float32(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    frames = as_frames(np.zeros(shape, np.uint8))
    assert frames.shape == expected
    assert frames.dtype == np.float32


def test_values_beyond_float32_become_infinite_and_so_are_found() -> None:
    assert as_frames(np.array([1e300])).tolist() == [[np.inf]]


@pytest.mark.parametrize("lengths", [np.array([1.0, 2.0]), np.array([[1, 2]]), np.array(3)])
def test_lengths_are_a_list_of_whole_numbers(lengths: np.ndarray[tuple[int], np.dtype]) -> None:
    with pytest.raises(DataError, match=r"f\.npz: 'a_len' is .*give one whole number a sample"):
        read_lengths({"a": np.zeros(3), "a_len": lengths}, "a", "f.npz")
