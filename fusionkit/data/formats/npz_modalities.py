"""Which arrays of an ``.npz`` file are modalities, and their lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.formats.npz_file import Arrays, is_numeric, lengths_name, read_lengths
from fusionkit.errors import ConfigError, DataError


def choose_modalities(wanted: list[str] | None, arrays: Arrays, where: str) -> list[str]:
    """The arrays that are modalities: those that are asked for, or all that have lengths.

    Raises:
        ConfigError: an array that is asked for is no modality, or there is none.
    """
    found = [n for n, a in arrays.items() if lengths_name(n) in arrays and is_numeric(a)]
    chosen = found if wanted is None else wanted
    for name in chosen:
        if name not in arrays or not is_numeric(arrays[name]) or arrays[name].ndim == 0:
            raise ConfigError(
                f"modalities: {name!r} is no numeric array of {where}; it has {', '.join(arrays)}"
            )
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"modalities: name at least one array of {where}, each once; those with lengths are "
            f"{', '.join(found) or 'none (an array X needs the lengths X_len)'}"
        )
    return chosen


def lengths_of(
    arrays: Arrays, modalities: Sequence[str], where: str
) -> dict[str, NDArray[np.int64]]:
    """Modality -> (N,); ones where an array has no lengths: one frame a sample.

    Raises:
        DataError: lengths are no whole numbers, or of unlike numbers of samples.
    """
    lengths = {
        m: read_lengths(arrays, m, where)
        if lengths_name(m) in arrays
        else np.ones(len(arrays[m]), dtype=np.int64)
        for m in modalities
    }
    first = modalities[0]
    for modality, own in lengths.items():
        if len(own) != len(lengths[first]):
            raise DataError(
                f"{where}: {modality!r} has {len(own)} samples, {first!r} has "
                f"{len(lengths[first])}; give each sample a row, or lengths in "
                f"{lengths_name(modality)!r}"
            )
    return lengths


def left_out(arrays: Arrays, count: int) -> list[str]:
    """Notes on arrays that look like modalities of ``count`` samples, and why they are none."""
    notes = []
    for name, array in arrays.items():
        if lengths_name(name) in arrays and not is_numeric(array):
            notes.append(f"{name!r} is not used: it is no numeric array ({array.dtype})")
        elif (
            lengths_name(name) not in arrays
            and is_numeric(array)
            and array.ndim > 1
            and len(array) != count
        ):
            notes.append(f"{name!r} is not used: it has no lengths {lengths_name(name)!r}")
    return notes
