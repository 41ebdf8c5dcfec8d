"""Source ``npz``: one file of plain arrays, sequences one after another with their lengths.

A modality ``audio`` is an array ``audio`` (sum of lengths, D, ...) with ``audio_len`` (N,). Every
other array with N rows says something of each sample: target, subject, split, id.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from fusionkit.data.assemble import assemble_dataset
from fusionkit.data.dataset import MultimodalDataset, Split
from fusionkit.data.formats.context import choose_context
from fusionkit.data.formats.npz_file import Arrays, as_frames, lengths_name, read_npz
from fusionkit.data.formats.npz_modalities import choose_modalities, left_out, lengths_of
from fusionkit.data.formats.splits import Indices, SplitPlan, by_column, by_groups, cut
from fusionkit.data.formats.targets import Targets, read_targets
from fusionkit.data.source import DataConfig
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import ConfigError

TARGET_NAMES = ("label", "target", "y", "action", "emotion", "class")
GROUP_NAMES = ("subject", "actor", "speaker", "video")


class NpzConfig(DataConfig):
    """Options of ``--data npz:PATH``."""

    path: Path = Field(description="the .npz file")
    modalities: list[str] | None = Field(
        None,
        description="arrays to use, in this order; an array without lengths is one frame a sample "
        "(default: all numeric arrays X that come with X_len)",
    )
    target: str | None = Field(
        None, description=f"array to predict (default: the first of {', '.join(TARGET_NAMES)})"
    )
    task: Literal["auto", "regression", "classification", "multilabel"] = Field(
        "auto",
        description="auto: whole numbers or text are classes, 2-d 0/1 labels, else regression",
    )
    group: str | None = Field(
        None, description=f"array to split by (default: the first of {', '.join(GROUP_NAMES)})"
    )
    train_groups: list[int | str] | None = Field(
        None, description="groups to train on (default: all that no other list names)"
    )
    validation_groups: list[int | str] | None = Field(
        None, description="groups to validate on (default: a part of the training samples)"
    )
    test_groups: list[int | str] | None = Field(
        None, description="groups to test on (default: all that no other list names)"
    )
    split: str | None = Field(
        None,
        description="text array with train, valid and test (default: 'split', if the file has it "
        "and no groups are given)",
    )
    validation_fraction: float = Field(
        0.15,
        gt=0,
        lt=1,
        description="part of the training samples to validate on, drawn evenly over the classes, "
        "where neither groups nor split say it",
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="part to test on, where the file has no group and no split"
    )
    split_seed: int = Field(0, ge=0, description="seed of the drawn samples")
    context: tuple[str, ...] = Field(
        (),
        description="arrays that say something of each sample as a whole, such as who speaks, for "
        "methods that use it; values that training lacks are unknown",
    )

    @property
    def group_lists(
        self,
    ) -> tuple[list[int | str] | None, list[int | str] | None, list[int | str] | None]:
        """Groups to train on, to validate on and to test on, as far as they are given."""
        return self.train_groups, self.validation_groups, self.test_groups

    @property
    def lists_groups(self) -> bool:
        """Whether any of them is given."""
        return any(groups is not None for groups in self.group_lists)


def load_npz(config: NpzConfig) -> MultimodalDataset:
    """The file's samples, split by the options.

    Raises:
        DataError: the file cannot be used. ConfigError: an option does not fit the file.
    """
    where = str(config.path)
    arrays = read_npz(config.path)
    modalities = choose_modalities(config.modalities, arrays, where)
    lengths = lengths_of(arrays, modalities, where)
    count = len(lengths[modalities[0]])
    target = _column(config.target, "target", TARGET_NAMES, arrays, count, where)
    if target is None:
        used = {*modalities, *map(lengths_name, modalities)}
        candidates = [n for n, a in arrays.items() if a.shape[:1] == (count,) and n not in used]
        raise ConfigError(
            f"target: {where} has none of {', '.join(TARGET_NAMES)}; choose one of its arrays with "
            f"a row a sample: {', '.join(candidates) or 'there is none'}"
        )
    targets = read_targets(
        arrays[target],
        None if config.task == "auto" else config.task,
        where=f"{where}: target {target!r}",
    )
    # What a model is told of a sample is no group to split by unless groups are asked for.
    group_names = [
        name for name in GROUP_NAMES if config.lists_groups or name not in config.context
    ]
    group = _column(config.group, "group", group_names, arrays, count, where)
    context = choose_context(config.context, arrays, modalities, target, where)
    features = {m: as_frames(arrays[m]) for m in modalities}
    store = SequenceStore(
        features=features,
        lengths=lengths,
        targets=targets.values,
        ids=_ids(arrays, count),
        groups=None if group is None else arrays[group],
        context=context,
    )
    first = lengths[modalities[0]]
    spec = DataSpec(
        modalities={m: flat.shape[1] for m, flat in features.items()},
        task=targets.task,
        num_outputs=targets.num_outputs,
        aligned=all(np.array_equal(first, n) for n in lengths.values()),
        class_names=targets.class_names,
    )
    splits, rule = _split(config, arrays, group, count, targets, where)
    return assemble_dataset(
        store,
        spec,
        splits,
        config,
        name=f"npz:{config.path}",
        where=where,
        split_rule=rule,
        source=f"the file {config.path.name}; its licence is not known to FusionKit",
        notes=[
            *(left_out(arrays, count) if config.modalities is None else []),
            *_unseen_classes(targets, splits),
            *_shared_groups(store, splits),
        ],
    )


def _column(
    wanted: str | None,
    option: str,
    defaults: Sequence[str],
    arrays: Arrays,
    count: int,
    where: str,
) -> str | None:
    name = wanted or next((n for n in defaults if n in arrays), None)
    if name is None:
        return None
    if name not in arrays:
        raise ConfigError(f"{option}: {where} has no array {name!r}, only {', '.join(arrays)}")
    rows = arrays[name].shape[0] if arrays[name].ndim else 0
    if rows != count:
        raise ConfigError(
            f"{option}: {name!r} of {where} has {rows} rows for {count} samples; choose another "
            "array"
        )
    return name


def _ids(arrays: Arrays, count: int) -> list[str]:
    if "id" in arrays and arrays["id"].shape == (count,):
        return [str(value) for value in arrays["id"].tolist()]
    return [f"{i:05d}" for i in range(count)]


def _split(
    config: NpzConfig, arrays: Arrays, group: str | None, count: int, targets: Targets, where: str
) -> tuple[dict[Split, Indices], str]:
    generator = np.random.default_rng(config.split_seed)
    strata = targets.values if targets.task == "classification" else None
    plan = _plan(config, arrays, group, count, where)
    if plan is None:
        rest, test = cut(np.arange(count), strata, config.test_fraction, generator)
        rule = f"{config.test_fraction:g} of the samples drawn for the test"
        plan = SplitPlan(rest, None, test, rule)
    train, validation, rule = plan.train, plan.validation, plan.rule
    if validation is None:
        train, validation = cut(train, strata, config.validation_fraction, generator)
        rule += (
            f"; validation {config.validation_fraction:g} of the training samples, drawn"
            f"{' evenly over the classes' if strata is not None else ''} (split_seed "
            f"{config.split_seed})"
        )
    return {"train": train, "validation": validation, "test": plan.test}, rule


def _plan(
    config: NpzConfig, arrays: Arrays, group: str | None, count: int, where: str
) -> SplitPlan | None:
    grouped = config.lists_groups
    if grouped and config.split is not None:
        raise ConfigError("split: give either split or lists of groups, not both")
    column = _column(config.split, "split", ("split",), arrays, count, where)
    if column is not None and not grouped:
        return by_column(arrays[column], name=column, where=where)
    if group is not None:
        return by_groups(arrays[group], *config.group_lists, name=group, where=where)
    if grouped:
        raise ConfigError(
            f"group: {where} has none of {', '.join(GROUP_NAMES)}; name the array that the lists "
            "of groups refer to"
        )
    return None


def _unseen_classes(targets: Targets, splits: dict[Split, Indices]) -> list[str]:
    if targets.task != "classification":
        return []
    seen = set(targets.values[splits["train"]].tolist())
    unseen = [name for i, name in enumerate(targets.class_names) if i not in seen]
    return [f"no training sample has the class {name!r}" for name in unseen]


def _shared_groups(store: SequenceStore, splits: dict[Split, Indices]) -> list[str]:
    if store.groups is None:
        return []
    fitted = np.concatenate([splits["train"], splits["validation"]])
    shared = np.intersect1d(store.groups[fitted], store.groups[splits["test"]])
    if not len(shared):
        return []
    return [f"the test split shares {len(shared)} groups with training, e.g. {str(shared[0])!r}"]
