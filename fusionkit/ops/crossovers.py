"""Where one backend overtakes another: measured limits, read from ``crossovers.json``.

One entry an operator::

    "cross_attention": {
      "rules": {"sdpa_from": {"head_dim": 64, "steps": 300}},
      "ratios": {"cpu / sdpa, head_dim 64, 500 steps, forward": 1.3},
      "date": "2026-11-21", "machine": "...", "torch": "2.13.0", "note": ""
    }

A rule is called ``<backend>_from`` or ``<backend>_below``, with ``<case>_`` before it where there
are several: the backend is the faster one where all of the quantities are at or above (below) their
limits. No rules: no limit was found, and the note says so. The ratios are the measurements behind
it. What to do with a rule is up to the operator (`fusionkit.ops.backends.Backend.slower_reasons`).
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusionkit.errors import ConfigError, UnknownNameError

_FILE = Path(__file__).with_name("crossovers.json")
_TEXTS = ("date", "machine", "torch", "note")


@dataclass(frozen=True)
class Crossover:
    """The limits of one operator and how they were found.

    Args:
        op: name of the operator.
        rules: rule -> quantity -> its limit.
        ratios: what was measured -> time of the one backend over that of the other.
        date: of the measurement, YYYY-MM-DD.
        machine: CPU model, instruction set level and threads.
        torch: its version.
        note: what the rules do not say.
    """

    op: str
    rules: Mapping[str, Mapping[str, int]]
    ratios: Mapping[str, float]
    date: str
    machine: str
    torch: str
    note: str

    def limit(self, rule: str, quantity: str) -> int:
        """The limit of one quantity in one rule.

        Raises:
            UnknownNameError: there is no such rule, or it has no such quantity.
        """
        if rule not in self.rules:
            raise UnknownNameError(f"crossover of {self.op}", rule, self.rules)
        if quantity not in self.rules[rule]:
            raise UnknownNameError(f"quantity of {self.op}.{rule}", quantity, self.rules[rule])
        return self.rules[rule][quantity]

    def slower(self, than: str, where: str) -> str:
        """The sentence for `Backend.slower_reasons`.

        >>> entry = Crossover("toy", {}, {}, "2026-11-21", "some CPU, base, 1 thread", "2.13.0", "")
        >>> entry.slower("reference", "below 100 elements")
        'measured slower than reference below 100 elements (2026-11-21, some CPU, base, 1 thread)'
        """
        return f"measured slower than {than} {where} ({self.date}, {self.machine})"

    def __str__(self) -> str:
        limits = [
            f"{rule} " + " and ".join(f"{name} {limit}" for name, limit in quantities.items())
            for rule, quantities in self.rules.items()
        ]
        ratios = (
            [f"ratios {min(self.ratios.values())} to {max(self.ratios.values())}"]
            if self.ratios
            else []
        )
        said = "; ".join([*limits, *([self.note] if self.note else []), *ratios])
        return f"{said} ({self.date}, {self.machine}, torch {self.torch})"


def crossover(op: str) -> Crossover:
    """The measured limits of an operator.

    Raises:
        UnknownNameError: nothing was measured for it.
    """
    if op not in _crossovers:
        raise UnknownNameError("crossover", op, _crossovers)
    return _crossovers[op]


def has_crossover(op: str) -> bool:
    """Whether something was measured for this operator."""
    return op in _crossovers


def read_crossovers(path: Path) -> dict[str, Crossover]:
    """All entries of a file, by operator.

    Raises:
        ConfigError: names the file, the entry and the field that is wrong.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: must be an object with one entry an operator")
    return {op: _parse(f"{path}: {op}", op, entry) for op, entry in content.items()}


def _parse(where: str, op: str, entry: Any) -> Crossover:
    fields = {"rules", "ratios", *_TEXTS}
    if not isinstance(entry, dict) or entry.keys() != fields:
        raise ConfigError(f"{where}: must have exactly the fields {', '.join(sorted(fields))}")
    for name in _TEXTS:
        if not isinstance(entry[name], str) or not (entry[name] or name == "note"):
            raise ConfigError(f"{where}.{name}: must be a text, got {entry[name]!r}")
    try:
        datetime.date.fromisoformat(entry["date"])
    except ValueError:
        raise ConfigError(f"{where}.date: must be YYYY-MM-DD, got {entry['date']!r}") from None
    if not isinstance(entry["rules"], dict) or not isinstance(entry["ratios"], dict):
        raise ConfigError(f"{where}: rules and ratios must be objects")
    if not entry["rules"] and not entry["note"]:
        raise ConfigError(f"{where}.note: must say what was found where there is no rule")
    for rule, quantities in entry["rules"].items():
        if not rule.endswith(("_from", "_below")):
            raise ConfigError(f"{where}.rules.{rule}: must end with _from or _below")
        if not isinstance(quantities, dict) or not quantities:
            raise ConfigError(f"{where}.rules.{rule}: must be an object of quantities")
        for name, limit in quantities.items():
            if type(limit) is not int or limit < 0:
                raise ConfigError(
                    f"{where}.rules.{rule}.{name}: must be a whole number from 0 on, got {limit!r}"
                )
    for name, ratio in entry["ratios"].items():
        if type(ratio) not in (int, float) or not ratio > 0:
            raise ConfigError(f"{where}.ratios.{name}: must be a positive number, got {ratio!r}")
    return Crossover(op=op, **entry)


# At import, because a compiled graph cannot read files.
_crossovers = read_crossovers(_FILE)
