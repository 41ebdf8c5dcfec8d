"""Opens ``.npz`` files: plain arrays only, never pickled objects."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkit.errors import DataError

Arrays = dict[str, NDArray[Any]]


def read_npz(path: Path) -> Arrays:
    """Name -> array, in the file's order.

    Raises:
        DataError: the file is missing, damaged, no ``.npz``, or holds pickled objects.
    """
    try:
        found = path.is_file()
    except OSError as error:
        raise DataError(f"{path}: cannot be looked at: {error.strerror}") from error
    if not found:
        raise DataError(f"{path}: no such file; check the path")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: may not be read; change its permissions")
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not an .npz file, or cut short; write it with numpy.savez")
    arrays: Arrays = {}
    reading = "the list of arrays"
    try:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                reading = f"array {name!r}"
                arrays[name] = file[name]
                if not isinstance(arrays[name], np.ndarray):
                    raise ValueError("it is no NumPy array")
    except Exception as error:  # damaged archives make the readers raise nearly anything
        raise DataError(
            f"{path}: {reading} cannot be read ({error}); write plain arrays with numpy.savez"
        ) from error
    return arrays


def lengths_name(modality: str) -> str:
    """The array that holds the lengths of a modality."""
    return f"{modality}_len"


def read_lengths(arrays: Arrays, modality: str, where: str) -> NDArray[np.int64]:
    """The (N,) lengths of a modality.

    Raises:
        DataError: they are not a list of whole numbers.
    """
    name = lengths_name(modality)
    lengths = arrays[name]
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{where}: {name!r} is {lengths.dtype} of shape {lengths.shape}; give one whole number "
            "a sample"
        )
    return lengths.astype(np.int64)


def is_numeric(array: NDArray[Any]) -> bool:
    """Whether an array can be features: truth values, whole numbers or floating point."""
    return array.dtype.kind in "biuf"


def as_frames(array: NDArray[Any]) -> NDArray[np.float32]:
    """(rows, ...) -> (rows, product of the rest) in float32; what is too large becomes inf."""
    with np.errstate(over="ignore"):
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        return np.ascontiguousarray(flat, dtype=np.float32)
