"""Reads and writes samples without targets, for prediction with a trained model."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.formats.npz_file import (
    Arrays,
    as_frames,
    is_numeric,
    lengths_name,
    read_lengths,
    read_npz,
)
from fusionkit.data.preparation import Preparation, unknown_context
from fusionkit.data.source import Nonfinite
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.data.validate import validate_store
from fusionkit.errors import DataError

Ragged = tuple[NDArray[np.float32], NDArray[np.int64]]


def read_samples(
    path: Path, spec: DataSpec, preparation: Preparation, *, nonfinite: Nonfinite = "error"
) -> SequenceStore:
    """The samples of an ``.npz``, prepared as the training data were.

    For each modality the file holds one of: (sum of lengths, D) frames with ``NAME_len`` (N,);
    padded (N, T, D) with ``NAME_len`` (N,); or a single sample (T, D). An array ``id`` (N,) names
    the samples; without it they are called after the file. What the training data tell of samples
    as a whole (`DataSpec.context`) stands in (N,) arrays of the same names; without them, and for
    values that training lacks, it is unknown.

    Args:
        spec: of the trained model, that is, of prepared data.
        preparation: of the training data. nonfinite: see `DataConfig`; repairs and what is unknown
            are warnings.

    Raises:
        DataError: a modality is missing or of a wrong shape, or the samples are unusable.
    """
    where = str(path)
    arrays = read_npz(path)
    raw = preparation.raw_spec(spec)
    ragged = {m: _read_modality(arrays, m, size, where) for m, size in raw.modalities.items()}
    first = next(iter(ragged))
    count = len(ragged[first][1])
    for modality, (_, lengths) in ragged.items():
        if len(lengths) != count:
            raise DataError(
                f"{where}: {modality!r} has {len(lengths)} samples, {first!r} has {count}; give "
                f"all modalities the same samples, with the lengths {lengths_name(modality)!r}"
            )
    store = SequenceStore(
        features={m: flat for m, (flat, _) in ragged.items()},
        lengths={m: lengths for m, (_, lengths) in ragged.items()},
        targets=None,
        ids=_ids(arrays, count, path),
        context={name: np.atleast_1d(arrays[name]) for name in spec.context if name in arrays},
    )
    return prepare_samples(store, spec, preparation, where=where, nonfinite=nonfinite)


def prepare_samples(
    store: SequenceStore,
    spec: DataSpec,
    preparation: Preparation,
    *,
    where: str,
    nonfinite: Nonfinite = "error",
) -> SequenceStore:
    """Check raw sequences and prepare them as the training data were; targets are dropped.

    Args:
        spec, preparation, nonfinite: as for `read_samples`. where: names them in errors.

    Raises:
        DataError: the samples are unusable.
    """
    store, repairs = validate_store(
        replace(store, targets=None),
        preparation.raw_spec(spec),
        where=where,
        nonfinite=nonfinite,
        missing=preparation.missing,
    )
    prepared = preparation.apply(store)
    for line in [*repairs, *unknown_context(prepared, where)]:
        warnings.warn(line, stacklevel=2)
    return prepared


def write_samples(path: Path, store: SequenceStore) -> None:
    """Write raw sequences as `read_samples` takes them."""
    arrays: dict[str, NDArray[np.generic]] = {"id": np.asarray(store.ids), **store.context}
    for modality, flat in store.features.items():
        arrays[modality] = flat
        arrays[lengths_name(modality)] = store.lengths[modality]
    np.savez(path, allow_pickle=False, **arrays)


def _read_modality(arrays: Arrays, modality: str, size: int, where: str) -> Ragged:
    if modality not in arrays:
        raise DataError(
            f"{where}: modality {modality!r} is missing; the file has "
            f"{', '.join(arrays) or 'no arrays'}. Add {modality!r} of shape (frames, {size})"
        )
    array = arrays[modality]
    if not is_numeric(array):
        raise DataError(f"{where}: modality {modality!r} is {array.dtype}; give numbers")
    if array.ndim == 1 and size == 1:
        array = array[:, None]
    if lengths_name(modality) not in arrays:
        if array.ndim != 2:
            raise DataError(
                f"{where}: modality {modality!r} is of shape {array.shape} and has no "
                f"{lengths_name(modality)!r}; give one sample (frames, {size}), or the lengths"
            )
        return as_frames(array), np.array([len(array)], dtype=np.int64)
    lengths = read_lengths(arrays, modality, where)
    if array.ndim == 3 and array.shape[0] == len(lengths) and array.shape[2] == size:
        return _unpad(array, lengths, modality, where), lengths
    if array.ndim < 2:
        raise DataError(
            f"{where}: modality {modality!r} is of shape {array.shape}; give (frames, {size})"
        )
    return as_frames(array), lengths


def _unpad(
    array: NDArray[np.generic], lengths: NDArray[np.int64], modality: str, where: str
) -> NDArray[np.float32]:
    steps = array.shape[1]
    outside = lengths[(lengths < 0) | (lengths > steps)]
    if len(outside):
        raise DataError(
            f"{where}: {lengths_name(modality)!r} says {outside[0]}, but {modality!r} is padded to "
            f"{steps} frames; give lengths up to {steps}"
        )
    return as_frames(array[np.arange(steps) < lengths[:, None]])


def _ids(arrays: Arrays, count: int, path: Path) -> list[str]:
    if "id" in arrays:
        ids = [str(value) for value in np.atleast_1d(arrays["id"]).tolist()]
        if len(ids) != count:
            raise DataError(f"{path}: {len(ids)} ids for {count} samples; give one a sample")
        return ids
    return [path.stem] if count == 1 else [f"{path.stem}-{i:05d}" for i in range(count)]
