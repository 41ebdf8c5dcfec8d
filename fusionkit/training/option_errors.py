"""What is said of options that do not fit: one line a fault, and where the option came from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from fusionkit.errors import suggest

Origins = Mapping[str, str]


def describe_faults(
    error: ValidationError,
    config: type[BaseModel],
    owner: str,
    *,
    origins: Origins,
    homes: Mapping[str, type[BaseModel]],
) -> str:
    """One line a wrong option, with the nearest known one.

    Args:
        error: of building ``config``. owner: whose options they are, as in "mmlatch".
        origins: option -> what gave it, as in "preset 'sensors'"; those that the user wrote lack.
        homes: section -> configuration in which an unknown option is looked for.
    """
    lines = []
    foreign: dict[str, list[str]] = {}
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        origin = origins.get(key.partition(".")[0], "")
        if problem["type"] != "extra_forbidden":
            where = f"{owner}: {key}" if key else owner
            message = problem["msg"].removeprefix("Value error, ")
            given = _given(problem["input"], {} if key else origins)
            by = f", by {origin}" if origin else ""
            lines.append(f"{where}: {message} (given{by}: {given})")
        elif origin:
            foreign.setdefault(origin, []).append(key)
        else:
            lines.append(f"{owner} has no option {key!r}" + _elsewhere(key, config, homes))
    for origin, keys in foreign.items():
        options = "option " if len(keys) == 1 else "options "
        lines.append(f"{origin} does not fit: {owner} has no {options}" + ", ".join(keys))
    return "\n".join(lines)


def _given(value: Any, origins: Origins) -> str:
    if not isinstance(value, Mapping) or not any(key in origins for key in value):
        return repr(value)
    by: dict[str, dict[Any, Any]] = {}
    for key, content in value.items():
        by.setdefault(origins.get(key, ""), {})[key] = content
    parts = [repr(options) if not by_what else f"{by_what}: {options!r}"
             for by_what, options in sorted(by.items())]  # fmt: skip
    return "; ".join(parts)


def _elsewhere(key: str, config: type[BaseModel], homes: Mapping[str, type[BaseModel]]) -> str:
    for section, home in homes.items():
        if home is not config and key in home.model_fields:
            return f"; did you mean '{section}.{key}'?"
    return suggest(key, config.model_fields)
