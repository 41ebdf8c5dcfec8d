"""What a method must know of the data before it can be built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from fusionkit.errors import DataError

_RESERVED = frozenset({"id", "file", "allow_pickle"})

Task = Literal["regression", "classification", "multilabel"]


@dataclass(frozen=True)
class DataSpec:
    """Modalities and task of a data set.

    Args:
        modalities: name -> number of features a step (>= 1), in the data set's order.
        task: ``regression`` (targets (B,) or (B, num_outputs) float), ``classification``
            (targets (B,) int64 in [0, num_outputs)) or ``multilabel`` (targets (B, num_outputs)
            of 0 and 1).
        num_outputs: regression targets, classes or labels.
        aligned: whether all modalities of a sample share one time axis.
        class_names: one name a class or label, or empty.
        context: what is known of a sample as a whole (who speaks, say): name -> number of its
            indices, 0 for unknown among them.

    Raises:
        DataError: no modality, a size below 1, a name that is no identifier or is taken, or a wrong
            task.
    """

    modalities: Mapping[str, int]
    task: Task
    num_outputs: int
    aligned: bool = False
    class_names: tuple[str, ...] = ()
    context: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.modalities:
            raise DataError("modalities: a data set needs at least one modality")
        for name, size in self.modalities.items():
            _check_name("modalities", name, "audio")
            if size < 1:
                raise DataError(f"modalities: {name!r} has {size} features, at least 1 is needed")
        for name, count in self.context.items():
            _check_name("context", name, "speaker")
            if name.removesuffix("_len") in self.modalities:
                raise DataError(f"context: {name!r} belongs to a modality; rename it")
            if count < 1:
                raise DataError(f"context: {name!r} has {count} indices, at least 1 is needed")
        if self.task not in get_args(Task):
            raise DataError(f"task: {self.task!r} is none of {', '.join(get_args(Task))}")
        least = 2 if self.task == "classification" else 1
        if self.num_outputs < least:
            raise DataError(f"num_outputs: {self.num_outputs} is too few for {self.task}")
        if self.class_names and len(self.class_names) != self.num_outputs:
            raise DataError(
                f"class_names: {len(self.class_names)} names for {self.num_outputs} outputs"
            )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` reads it back."""
        return {
            "modalities": dict(self.modalities),
            "task": self.task,
            "num_outputs": self.num_outputs,
            "aligned": self.aligned,
            "class_names": list(self.class_names),
            "context": dict(self.context),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DataSpec:
        """The inverse of `to_json`."""
        return cls(
            modalities={str(k): int(v) for k, v in content["modalities"].items()},
            task=cast(Task, content["task"]),
            num_outputs=int(content["num_outputs"]),
            aligned=bool(content["aligned"]),
            class_names=tuple(content["class_names"]),
            context={str(k): int(v) for k, v in content.get("context", {}).items()},
        )


def _check_name(where: str, name: str, example: str) -> None:
    if not name.isidentifier():
        raise DataError(f"{where}: {name!r} must be a plain identifier such as {example!r}")
    if name in _RESERVED:
        raise DataError(f"{where}: {name!r} has another meaning in files; rename it")
