"""Options that are one value for all modalities, or one for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from fusionkit.errors import ConfigError

Value = TypeVar("Value")


def per_modality(
    field: str,
    value: Value | Mapping[str, Value],
    modalities: Collection[str],
    default: Value | None = None,
) -> dict[str, Value]:
    """A value for every modality, from one for all or from {modality: value}.

    Args:
        field: name of the option, for errors. default: for modalities that a mapping leaves out.

    Raises:
        ConfigError: a modality that the data lack, or one without a value and no default.
    """
    if not isinstance(value, Mapping):
        return dict.fromkeys(modalities, value)
    check_modalities(field, value, modalities)
    found: dict[str, Value] = {}
    for name in modalities:
        if name in value:
            found[name] = value[name]
        elif default is not None:
            found[name] = default
        else:
            raise ConfigError(
                f"{field}: nothing for {name!r}; give one value for each of "
                f"{', '.join(modalities)}, or one for all"
            )
    return found


def check_modalities(field: str, names: Iterable[str], modalities: Collection[str]) -> None:
    """Refuse names of modalities that the data lack.

    Raises:
        ConfigError: names the option and the modality.
    """
    for name in names:
        if name not in modalities:
            raise ConfigError(
                f"{field}: no modality {name!r} in the data ({', '.join(modalities)})"
            )
