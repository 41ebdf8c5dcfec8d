"""Who is trained on, validated on and tested on, for files that bring their own columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.dataset import Split
from fusionkit.errors import ConfigError, DataError

Indices = NDArray[np.int64]
_SPLIT_VALUES: dict[str, Split] = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
}


@dataclass(frozen=True)
class SplitPlan:
    """Indices of each split (validation is None if it must still be cut), and one sentence."""

    train: Indices
    validation: Indices | None
    test: Indices
    rule: str


def by_column(column: NDArray[Any], *, name: str, where: str) -> SplitPlan:
    """The split that a text column says (train, valid, validation, val, dev, test).

    Args:
        column: (N,) words. name, where: the column and its file, for messages.

    Raises:
        DataError: another word, or no word for training or test.
    """
    words = [str(word).lower() for word in column.tolist()]
    unknown = sorted(set(words) - set(_SPLIT_VALUES))
    if unknown:
        raise DataError(f"{where}: {name!r} says {unknown[0]!r}; use {', '.join(_SPLIT_VALUES)}")
    owner = np.array([_SPLIT_VALUES[word] for word in words])
    parts = {part: np.flatnonzero(owner == part) for part in ("train", "validation", "test")}
    for part in ("train", "test"):
        if len(parts[part]) == 0:
            raise DataError(f"{where}: {name!r} marks no sample as {part!r}; mark some")
    validation = parts["validation"] if len(parts["validation"]) else None
    return SplitPlan(parts["train"], validation, parts["test"], f"as {name!r} says")


def by_groups(
    column: NDArray[Any],
    train: Sequence[int | str] | None,
    validation: Sequence[int | str] | None,
    test: Sequence[int | str] | None,
    *,
    name: str,
    where: str,
) -> SplitPlan:
    """The split by lists of groups; of train and test, a list that is left out means the rest.

    Args:
        column: (N,) group of each sample. name, where: the column and its file, for messages.

    Raises:
        ConfigError: a group is unknown, in two lists, or a split would have no group.
    """
    members = np.array([str(value) for value in column.tolist()])
    known = set(members.tolist())
    lists = {"train": train, "validation": validation, "test": test}
    chosen = {k: [str(g) for g in v] for k, v in lists.items() if v is not None}
    owner = _owners(chosen, known, f"{name!r} of {where}")
    if train is None and test is None:
        raise ConfigError(
            f"train_groups and test_groups are both missing; give at least one of them (groups in "
            f"{name!r} of {where}: {_listing(known)})"
        )
    rest = known - set(owner)
    for split in ("train", "test"):
        if split not in chosen:
            chosen[split], rest = sorted(rest), set()
    for split, groups in chosen.items():
        if not groups:
            raise ConfigError(
                f"{split}_groups: the {split} split gets no group of {name!r} of {where}; "
                "give it one"
            )
    indices = {split: np.flatnonzero(np.isin(members, groups)) for split, groups in chosen.items()}
    rule = "; ".join(f"{s} {_listing(chosen[s])}" for s in lists if s in chosen)
    unused = f"; unused {_listing(rest)}" if rest else ""
    return SplitPlan(
        indices["train"], indices.get("validation"), indices["test"], f"by {name!r}: {rule}{unused}"
    )


def _owners(chosen: Mapping[str, Sequence[str]], known: set[str], source: str) -> dict[str, str]:
    owner: dict[str, str] = {}
    for split, groups in chosen.items():
        for group in groups:
            if group not in known:
                raise ConfigError(
                    f"{split}_groups: {group!r} is no group in {source}; known: {_listing(known)}"
                )
            if owner.setdefault(group, split) != split:
                raise ConfigError(
                    f"{split}_groups: group {group!r} is in {owner[group]}_groups as well; "
                    "give a group to one split"
                )
    return owner


def cut(
    candidates: Indices,
    strata: NDArray[Any] | None,
    fraction: float,
    generator: np.random.Generator,
) -> tuple[Indices, Indices]:
    """Draw ``floor(fraction * len(candidates))`` samples, evenly over the strata.

    Samples are shuffled, sorted by stratum, and taken at equal steps, so a stratum gives its share
    to within one sample.

    Args:
        candidates: indices to draw from. strata: (N,) class of every sample, or None.

    Returns:
        The rest and the drawn, both sorted.
    """
    order = generator.permutation(candidates)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    steps = np.floor(np.arange(len(order) + 1) * fraction + 1e-9)
    drawn = np.diff(steps) > 0
    return np.sort(order[~drawn]), np.sort(order[drawn])


def _listing(groups: Iterable[str]) -> str:
    numbers_first = sorted(groups, key=lambda g: (0, int(g), g) if g.isdecimal() else (1, 0, g))
    return ", ".join(numbers_first)
