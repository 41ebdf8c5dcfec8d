"""A data set as the harness sees it: three splits, their spec, and where they come from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from fusionkit.data.preparation import Preparation
from fusionkit.data.spec import DataSpec
from fusionkit.data.store import SequenceStore
from fusionkit.errors import UnknownNameError

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class MultimodalDataset:
    """Training, validation and test data, already normalised.

    Args:
        name: as given to ``--data``.
        preparation: what was done to the features, so that new samples get the same.
        split_rule: one sentence for the report: who is in which split.
        source: one sentence: where the data come from, and their licence.
        notes: lines to print before training (for example the Bayes-optimal accuracy).
    """

    name: str
    spec: DataSpec
    train: SequenceStore
    validation: SequenceStore
    test: SequenceStore
    split_rule: str
    source: str
    preparation: Preparation = field(default_factory=Preparation)
    notes: list[str] = field(default_factory=list)

    def split(self, name: Split) -> SequenceStore:
        """One split by its name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        if name not in splits:
            raise UnknownNameError("split", name, splits)
        return splits[name]

    @cached_property
    def sha256(self) -> str:
        """Hash over all splits: what a reported number was measured on."""
        joined = "".join(s.sha256() for s in (self.train, self.validation, self.test))
        return hashlib.sha256(joined.encode()).hexdigest()
