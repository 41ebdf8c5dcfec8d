"""Checks of samples before anything is trained on them; each error names file, field and fix."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.preparation import Missing
from fusionkit.data.source import Nonfinite
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import DataError


def validate_store(
    store: SequenceStore,
    spec: DataSpec,
    *,
    where: str,
    nonfinite: Nonfinite,
    missing: Missing = "error",
) -> tuple[SequenceStore, list[str]]:
    """The samples, checked against ``spec``, and what was repaired, one line each.

    Args:
        store: raw samples, before `Preparation`.
        spec: what they should be; targets are checked if the store has any.
        where: file or data set, for the messages.
        nonfinite: ``zero`` sets NaN and infinite features to 0, ``error`` refuses them.
        missing: ``zeros`` lets a sample lack modalities (length 0), as long as it has one.

    Raises:
        DataError: a modality is missing or of a wrong size, lengths disagree with the features, a
            sample is empty, a feature or target is not finite, a target is outside the task's
            range, a context is no list of integers or text, or names are missing or not unique.
    """
    _check_ids(store, where)
    _check_modalities(store, spec, where, missing)
    for modality in spec.modalities:
        _check_lengths(store, modality, where, missing)
    if missing == "zeros":
        _check_something_there(store, spec, where)
    if spec.aligned:
        _check_alignment(store, spec, where)
    if store.groups is not None and len(store.groups) != len(store):
        raise DataError(
            f"{where}: {len(store.groups)} groups for {len(store)} samples; give one a sample"
        )
    for name, values in store.context.items():
        if values.shape != (len(store),) or values.dtype.kind not in "iuU":
            raise DataError(
                f"{where}: context {name!r} is {values.dtype} of shape {values.shape} for "
                f"{len(store)} samples; give one whole number or text a sample"
            )
    if store.targets is not None:
        _check_targets(store, store.targets, spec, where)
    return _finite(store, spec, where, nonfinite)


def _check_ids(store: SequenceStore, where: str) -> None:
    if len(store) == 0:
        raise DataError(f"{where}: no samples; check the file or the filter that selected them")
    repeated = [name for name, count in Counter(store.ids).items() if count > 1]
    if repeated:
        raise DataError(
            f"{where}: id {repeated[0]!r} is given to {Counter(store.ids)[repeated[0]]} samples; "
            "every sample needs its own id"
        )


def _check_modalities(store: SequenceStore, spec: DataSpec, where: str, missing: Missing) -> None:
    for modality, size in spec.modalities.items():
        if modality not in store.features or modality not in store.lengths:
            raise DataError(
                f"{where}: modality {modality!r} is missing; the data have "
                f"{', '.join(store.features) or 'none'}, and all of {', '.join(spec.modalities)} "
                "are needed" + (", with length 0 where a sample lacks one" * (missing == "zeros"))
            )
        flat = store.features[modality]
        if flat.ndim != 2 or flat.dtype != np.float32:
            raise DataError(
                f"{where}: modality {modality!r} is a {flat.ndim}-d array of {flat.dtype}; give a "
                "float32 array (sum of lengths, features)"
            )
        if flat.shape[1] != size:
            raise DataError(
                f"{where}: modality {modality!r} has {flat.shape[1]} features a frame, {size} are "
                "expected; use the features that the model was made for"
            )


def _check_lengths(store: SequenceStore, modality: str, where: str, missing: Missing) -> None:
    flat, lengths = store.features[modality], store.lengths[modality]
    if lengths.shape != (len(store),):
        raise DataError(
            f"{where}: {modality!r} has lengths of shape {lengths.shape} for {len(store)} samples; "
            "give one length a sample"
        )
    wrong = np.flatnonzero(lengths < (0 if missing == "zeros" else 1))
    if len(wrong):
        index = int(wrong[0])
        fix = "drop it, or train with --set data.missing=zeros"
        if lengths[index] < 0:
            fix = "lengths are whole numbers from 0 on"
        raise DataError(
            f"{where}: sample {store.ids[index]!r} has length {lengths[index]} in {modality!r} "
            f"({len(wrong)} such samples); {fix}"
        )
    if lengths.sum() != len(flat):
        raise DataError(
            f"{where}: the lengths of {modality!r} add up to {lengths.sum()}, but there are "
            f"{len(flat)} frames; write the length of every sample as it is in the features"
        )


def _check_something_there(store: SequenceStore, spec: DataSpec, where: str) -> None:
    total = np.sum([store.lengths[m] for m in spec.modalities], axis=0)
    empty = np.flatnonzero(total == 0)
    if len(empty):
        raise DataError(
            f"{where}: sample {store.ids[int(empty[0])]!r} has no frame in any modality; drop it"
        )


def _check_alignment(store: SequenceStore, spec: DataSpec, where: str) -> None:
    for first, other in combinations(spec.modalities, 2):
        both = (store.lengths[first] > 0) & (store.lengths[other] > 0)
        differ = np.flatnonzero(both & (store.lengths[first] != store.lengths[other]))
        if len(differ):
            index = int(differ[0])
            raise DataError(
                f"{where}: sample {store.ids[index]!r} has {store.lengths[first][index]} frames of "
                f"{first!r} and {store.lengths[other][index]} of {other!r}, but the data are said "
                "to be aligned; give all modalities of a sample the same frames"
            )


def _check_targets(
    store: SequenceStore, targets: NDArray[np.generic], spec: DataSpec, where: str
) -> None:
    if len(targets) != len(store):
        raise DataError(
            f"{where}: {len(targets)} targets for {len(store)} samples; give one a sample"
        )
    if spec.task == "classification":
        if targets.ndim != 1 or targets.dtype != np.int64:
            raise DataError(
                f"{where}: class labels are {targets.ndim}-d of {targets.dtype}; give (N,) int64"
            )
        labels = targets.astype(np.int64)
        bad = (labels < 0) | (labels >= spec.num_outputs)
        allowed = f"a class in 0..{spec.num_outputs - 1}"
    else:
        shapes: list[tuple[int, ...]] = [(len(store), spec.num_outputs)]
        if spec.task == "regression" and spec.num_outputs == 1:
            shapes.append((len(store),))
        if targets.shape not in shapes or targets.dtype != np.float32:
            raise DataError(
                f"{where}: targets are {targets.dtype} of shape {targets.shape}; give float32 of "
                f"shape {shapes[-1]}"
            )
        if spec.task == "multilabel":
            bad, allowed = ~np.isin(targets, (0, 1)), "0 or 1"
        else:
            bad, allowed = ~np.isfinite(targets), "a finite number"
    if bad.any():
        index = int(np.flatnonzero(bad.reshape(len(targets), -1).any(axis=1))[0])
        raise DataError(
            f"{where}: the target of sample {store.ids[index]!r} is {targets[index]}, not "
            f"{allowed}; correct it or drop the sample"
        )


def _finite(
    store: SequenceStore, spec: DataSpec, where: str, nonfinite: Nonfinite
) -> tuple[SequenceStore, list[str]]:
    features, notes = dict(store.features), []
    for modality in spec.modalities:
        flat = features[modality]
        bad = ~np.isfinite(flat)
        if not bad.any():
            continue
        count = int(bad.sum())
        samples = np.searchsorted(store.offsets[modality], np.flatnonzero(bad.any(axis=1)), "right")
        samples = np.unique(samples) - 1
        if nonfinite == "error":
            row, column = (int(i) for i in np.argwhere(bad)[0])
            index = int(samples[0])
            raise DataError(
                f"{where}: modality {modality!r}, sample {store.ids[index]!r}, frame "
                f"{row - store.offsets[modality][index]}, feature {column} is {flat[row, column]} "
                f"({count} such values in {len(samples)} samples); correct the file, or set them "
                "to 0 with --nonfinite zero"
            )
        features[modality] = np.where(bad, np.float32(0), flat)
        notes.append(
            f"{where}: {count} NaN or infinite values of {modality!r} in {len(samples)} samples "
            "were set to 0"
        )
    return replace(store, features=features), notes
