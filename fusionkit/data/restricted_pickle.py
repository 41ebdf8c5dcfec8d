"""Reads pickled NumPy arrays without running anything that a pickle could ask for.

Loading a pickle calls whatever functions the file names. Here a file can name only what NumPy's
own array pickles need, and each name is answered by a stand-in of ours: no function of another
module is ever called, and an array's contents are checked against its type and shape before NumPy
sees them (a forged dtype would let bytes pass as object pointers).
"""

from __future__ import annotations

import math
import pickle
import re
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from fusionkit.errors import DataError

_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c8|c16|O[48]?|[SU]\d+")


class PickledArray(np.ndarray[Any, Any]):
    """An array from a restricted pickle; ``np.asarray`` makes it an ordinary one."""

    def __new__(cls, *_unused: object) -> PickledArray:
        array: PickledArray = np.ndarray.__new__(cls, (0,))
        return array

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, data = state
        if not isinstance(dtype, _PickledDtype):
            raise pickle.UnpicklingError("an array without a dtype")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise pickle.UnpicklingError(f"an array of shape {shape}")
        real = np.dtype(dtype.code).newbyteorder(dtype.order)
        if isinstance(data, str) and not real.hasobject:
            data = data.encode("latin1")  # bytes of a Python 2 pickle
        size, wanted = (1, list) if real.hasobject else (real.itemsize, bytes)
        if type(data) is not wanted or len(data) != math.prod(shape) * size:
            raise pickle.UnpicklingError(f"an array of {real} whose contents are not {shape}")
        checked: Any = (1, tuple(shape), real, bool(fortran), data)
        super().__setstate__(checked)


class _PickledDtype:
    """Stands in for ``numpy.dtype``: keeps the type code and byte order, nothing else."""

    def __init__(self, code: str, *_unused: object) -> None:
        if _DTYPE.fullmatch(code) is None:
            raise pickle.UnpicklingError(f"dtype {code!r}")
        self.code = code
        self.order: Any = "|"

    def __setstate__(self, state: Any) -> None:
        if any(part is not None for part in state[2:5]):
            raise pickle.UnpicklingError("a structured dtype")
        self.order = str(state[1])


class _Latin1Bytes:
    """Stands in for ``_codecs.encode`` and ``bytes``: how Python 3 writes bytes in protocol 2."""

    def __new__(cls, text: str = "", encoding: str = "latin1") -> Any:
        if encoding != "latin1":
            raise pickle.UnpicklingError(f"text in encoding {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("a state for a function")


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy", "ndarray"): PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _Latin1Bytes,
    ("__builtin__", "bytes"): _Latin1Bytes,
}


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], name: str) -> None:
        super().__init__(file, encoding="latin1")
        self._name = name

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise DataError(
                f"{self._name}: the pickle asks for '{module}.{name}', and only plain NumPy arrays "
                "are admitted; do not trust this file, or save its arrays with numpy.savez"
            ) from None


def load_restricted(file: IO[bytes], name: str) -> Any:
    """The object pickled in ``file``: numbers, text, containers and NumPy arrays (`PickledArray`).

    Args:
        file: positioned at the pickle. name: of the file, for messages.

    Raises:
        DataError: the pickle names anything else, or is damaged.
    """
    try:
        return _RestrictedUnpickler(file, name).load()
    except DataError:
        raise
    except Exception as error:  # a forged pickle can make any opcode fail in any way
        raise DataError(
            f"{name}: not a readable pickle of arrays ({type(error).__name__}: {error}); fetch the "
            "file again, or save its arrays with numpy.savez"
        ) from error


def read_object_npy(path: Path) -> np.ndarray[Any, Any]:
    """An ``.npy`` file of objects, as `numpy.save` writes a dictionary or list of arrays.

    Raises:
        DataError: the file is missing, is not such a file, or holds more than arrays.
    """
    try:
        with path.open("rb") as file:
            shape, dtype = _read_header(file)
            if dtype != np.dtype(object):
                raise DataError(f"{path}: holds {dtype}, not pickled objects; use numpy.load")
            array = load_restricted(file, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"{path}: not an .npy file ({error}); fetch it again") from error
    if not isinstance(array, PickledArray) or array.shape != shape or array.dtype != dtype:
        raise DataError(
            f"{path}: the contents are not the object array of the header; fetch it again"
        )
    return np.asarray(array)


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"format version {version} is not known")
    shape, _fortran, dtype = readers[version](file)
    return shape, dtype
