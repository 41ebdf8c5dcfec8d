"""Pickles are read as arrays or refused; nothing that they ask for is ever run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusionkit.data.restricted_pickle import PickledArray, load_restricted, read_object_npy
from fusionkit.errors import DataError


class _Calls:
    """Pickles to ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def _object_npy(path: Path, payload: bytes, shape: str = "()") -> Path:
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + payload)
    return path


def _global(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


@pytest.mark.parametrize("protocol", range(5))
def test_round_trip_of_containers_and_arrays(protocol: int) -> None:
    content: dict[str, Any] = {
        "X": [
            np.arange(6.0).reshape(2, 3),
            np.asfortranarray(np.arange(8, dtype=">i2").reshape(4, 2)),
        ],
        "names": np.array(["a", "bc"]),
        "bytes": np.array([b"a", b"bc"]),
        "objects": np.array([1, "x", None, [2.5]], dtype=object),
        "flags": np.array([True, False]),
        "complex": np.array([1 + 2j]),
        "empty": np.zeros((0, 4), np.float32),
        "plain": (1, 2.5, "text", b"raw", None, True, {"nested": []}),
    }
    read = load_restricted(io.BytesIO(pickle.dumps(content, protocol)), "file")
    assert read.keys() == content.keys()
    assert read["plain"] == content["plain"]
    arrays = [(read["X"][i], content["X"][i]) for i in range(2)]
    arrays += [(read[k], content[k]) for k in content if isinstance(content[k], np.ndarray)]
    for got, expected in arrays:
        assert isinstance(got, PickledArray)
        assert got.dtype == expected.dtype.newbyteorder("=")
        assert np.array_equal(np.asarray(got), expected)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_object_npy_as_numpy_writes_it(tmp_path: Path, shape: tuple[int, ...]) -> None:
    expected = np.empty(shape, dtype=object)
    for index in np.ndindex(shape):
        expected[index] = {"x": np.arange(3.0), "index": index}
    np.save(tmp_path / "file.npy", expected)
    read = read_object_npy(tmp_path / "file.npy")
    assert type(read) is np.ndarray
    assert read.shape == shape
    for index in np.ndindex(shape):
        assert read[index]["index"] == index
        assert np.array_equal(read[index]["x"], np.arange(3.0))


_RAN: list[str] = []


def _record(*arguments: Any) -> None:
    _RAN.append(str(arguments))


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("echo executed",)),
        (builtins.eval, ("1+1",)),
        (builtins.exec, ("x=1",)),
        (builtins.getattr, (1, "real")),
        (builtins.open, ("/dev/null",)),
        (builtins.__import__, ("antigravity",)),
        (np.load, ("other.npy",)),
        (np.fromfile, ("/dev/null",)),
        (np.memmap, ("/dev/null",)),
        (np.frombuffer, (b"12345678",)),
        (OrderedDict, ([],)),
        (_record, ("called",)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_refused_calls_name_file_and_function(
    function: Any, arguments: tuple[Any, ...], protocol: int
) -> None:
    payload = pickle.dumps([_Calls(function, *arguments)], protocol)
    with pytest.raises(
        DataError, match=r"bad\.npy: .*'[\w.]*\.\w+'.*only plain NumPy arrays"
    ) as caught:
        load_restricted(io.BytesIO(payload), "bad.npy")
    assert function.__name__ in str(caught.value)
    assert _RAN == []


def test_a_command_in_an_npy_file_is_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    array = np.empty((), dtype=object)
    array[()] = _Calls(os.system, f"touch {witness}")
    np.save(tmp_path / "bad.npy", array)
    with pytest.raises(DataError, match="system"):
        read_object_npy(tmp_path / "bad.npy")
    assert not witness.exists()
    np.load(tmp_path / "bad.npy", allow_pickle=True)
    assert witness.exists(), "the attack itself works, so the refusal was what stopped it"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("numpy", "load"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy.core.multiarray", "fromfile"),
        ("numpy.testing._private.utils", "runstring"),
        ("numpy.f2py.capi_maps", "eval"),
        ("numpy.core.numeric", "_frombuffer"),
        ("__builtin__", "eval"),
        ("builtins", "object"),
        ("_codecs", "decode"),
        ("pickle", "loads"),
        ("posix", "system"),
    ],
)
def test_refused_globals(module: str, name: str) -> None:
    payload = _global(module, name) + b"."
    with pytest.raises(DataError, match=f"'{module}.{name}'"):
        load_restricted(io.BytesIO(payload), "bad.npy")


def _array_pickle(state: bytes, dtype_code: str = "f8", dtype_state: bytes = b"") -> bytes:
    """A protocol-0 pickle of ``_reconstruct(ndarray, (0,), b'b')`` with the given BUILD state.

    ``state`` may use ``%DTYPE%`` for the pickled dtype.
    """
    dtype = _global("numpy", "dtype") + f"(V{dtype_code}\nI0\nI1\ntR".encode() + dtype_state
    array = _global("numpy.core.multiarray", "_reconstruct")
    array += b"(" + _global("numpy", "ndarray") + b"(I0\ntVb\ntR"
    return array + state.replace(b"%DTYPE%", dtype) + b"b."


@pytest.mark.parametrize(
    "payload",
    [
        # Bytes as object pointers: dtype O8 whose state clears the flag "holds objects".
        _array_pickle(b"(I1\n(I1\nt%DTYPE%I00\nV12345678\nt", "O8", b"(I3\nV|\nNNNI8\nI8\nI0\ntb"),
        _array_pickle(b"(I1\n(I4\nt%DTYPE%I00\nV12345678\nt"),
        _array_pickle(b"(I1\n(I-1\nt%DTYPE%I00\nV\nt"),
        _array_pickle(b"(I1\n(I3\nt%DTYPE%I00\n(I1\nlt", "O8"),
        _array_pickle(b"(I1\n(I1\ntNI00\nV12345678\nt"),
        _array_pickle(b"(I1\n(I1\nt%DTYPE%I00\nV12345678\nt", "i4,i4"),
        _array_pickle(
            b"(I1\n(I1\nt%DTYPE%I00\nV12345678\nt", "f8", b"(I3\nV|\nNVname\nNI8\nI8\nI0\ntb"
        ),
        _array_pickle(
            b"(I1\n(I1\nt%DTYPE%I00\nV12345678\nt", "f8", b"(I3\nVzzz\nNNNI8\nI8\nI0\ntb"
        ),
    ],
    ids=[
        "bytes-as-pointers",
        "too-few-bytes",
        "negative-shape",
        "too-few-objects",
        "no-dtype",
        "structured",
        "fields",
        "byte-order",
    ],
)
def test_forged_arrays_are_refused(payload: bytes) -> None:
    with pytest.raises(DataError, match=r"bad\.npy: not a readable pickle of arrays"):
        load_restricted(io.BytesIO(payload), "bad.npy")


def test_the_forging_helper_writes_good_arrays_too() -> None:
    state = b"(I1\n(I1\nt%DTYPE%I00\nV\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u00f0\\u003f\nt"
    payload = _array_pickle(state, "f8", b"(I3\nV<\nNNNI-1\nI-1\nI0\ntb")
    assert np.asarray(load_restricted(io.BytesIO(payload), "good.npy")).tolist() == [1.0]


@pytest.mark.parametrize("name", ["dtype", "ndarray"])
def test_stand_ins_cannot_be_altered_by_a_pickle(name: str) -> None:
    payload = _global("numpy", name) + b"(N(dVcode\nVO8\nstb."  # a state for the class itself
    with pytest.raises(DataError, match="not a readable pickle"):
        load_restricted(io.BytesIO(payload), "bad.npy")


def test_encode_accepts_latin1_only() -> None:
    payload = _global("_codecs", "encode") + b"(Vabc\nV%s\ntR."
    assert load_restricted(io.BytesIO(payload % b"latin1"), "f") == b"abc"
    with pytest.raises(DataError, match="'rot13'"):
        load_restricted(io.BytesIO(payload % b"rot13"), "f")


@pytest.mark.parametrize("cut", [0, 1, 30, -1])
def test_truncated_pickle(tmp_path: Path, cut: int) -> None:
    payload = pickle.dumps(np.array(["x", None], dtype=object), 2)
    path = _object_npy(tmp_path / "cut.npy", payload[:cut], "(2,)")
    with pytest.raises(DataError, match=r"cut\.npy: not a readable pickle.*fetch the file again"):
        read_object_npy(path)


def test_header_and_contents_must_agree(tmp_path: Path) -> None:
    payload = pickle.dumps(np.array(["x", None], dtype=object), 2)
    with pytest.raises(DataError, match=r"bad\.npy: the contents are not the object array"):
        read_object_npy(_object_npy(tmp_path / "bad.npy", payload, "(3,)"))
    with pytest.raises(DataError, match=r"bad\.npy: the contents are not the object array"):
        read_object_npy(_object_npy(tmp_path / "bad.npy", pickle.dumps([1])))


def test_other_files(tmp_path: Path) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(3))
    with pytest.raises(DataError, match=r"numbers\.npy: holds int64, not pickled objects"):
        read_object_npy(tmp_path / "numbers.npy")
    (tmp_path / "text.npy").write_text("hello there")
    with pytest.raises(DataError, match=r"text\.npy: not an \.npy file"):
        read_object_npy(tmp_path / "text.npy")
    with pytest.raises(DataError, match=r"absent\.npy: cannot be read"):
        read_object_npy(tmp_path / "absent.npy")
