"""The last step of every data source: check all samples, cut the splits, fit the preparation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.preparation import Preparation, unknown_context
from fusionkit.data.source import DataConfig
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.data.validate import validate_store
from fusionkit.errors import ConfigError, DataError, suggest

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def assemble_dataset(
    store: SequenceStore,
    spec: DataSpec,
    splits: Mapping[Split, NDArray[np.int64]],
    config: DataConfig,
    *,
    name: str,
    where: str,
    split_rule: str,
    source: str,
    notes: Sequence[str] = (),
) -> MultimodalDataset:
    """A data set of raw samples; the preparation sees the training samples only.

    Args:
        store, spec: all samples as they are in the files, with targets.
        splits: split -> indices into ``store``.
        config: says whether to add differences, to normalise, and what NaN means.
        where: file or data set, for error messages.
        name, split_rule, source, notes: as in `MultimodalDataset`.

    Raises:
        ConfigError: ``centre`` names a modality that is not there.
        DataError: the samples are unusable (see `validate_store`), a split is empty, a sample is in
            two splits, or a modality is in no training sample.
    """
    store, repairs = validate_store(
        store, spec, where=where, nonfinite=config.nonfinite, missing=config.missing
    )
    _check_splits(store, splits, where)
    raw = {split: store.select(splits[split]) for split in SPLITS}
    for modality, own in raw["train"].lengths.items():
        if not own.any():
            raise DataError(
                f"{where}: no training sample has {modality!r}; leave it out, or train on samples "
                "that have it"
            )
    unknown = sorted(set(config.centre) - set(spec.modalities))
    if unknown:
        raise ConfigError(
            f"data.centre: {where} has no modality {unknown[0]!r}"
            + suggest(unknown[0], spec.modalities)
        )
    preparation = Preparation.fit(
        raw["train"],
        centre=config.centre,
        deltas=config.deltas,
        missing=config.missing,
        normalise=config.normalise,
    )
    ready = {split: preparation.apply(samples) for split, samples in raw.items()}
    unseen = [line for split in SPLITS for line in unknown_context(ready[split], f"{split} data")]
    return MultimodalDataset(
        name=name,
        spec=preparation.prepared_spec(spec),
        train=ready["train"],
        validation=ready["validation"],
        test=ready["test"],
        split_rule=split_rule,
        source=source,
        preparation=preparation,
        notes=[*notes, *repairs, *unseen],
    )


def _check_splits(
    store: SequenceStore, splits: Mapping[Split, NDArray[np.int64]], where: str
) -> None:
    owner: dict[int, Split] = {}
    for split in SPLITS:
        if len(splits[split]) == 0:
            raise DataError(f"{where}: the {split} split has no samples; change the split options")
        for index in splits[split].tolist():
            if index in owner:
                raise DataError(
                    f"{where}: sample {store.ids[index]!r} is in the {owner[index]} and the "
                    f"{split} split; put every sample in one split"
                )
            owner[index] = split
