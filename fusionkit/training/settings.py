"""From what the user wrote (preset, file, ``--set``) to checked configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from omegaconf import OmegaConf
from pydantic import BaseModel, ValidationError

from fusionkit.data.source import DataConfig, DataSource
from fusionkit.errors import ConfigError, UnknownNameError, suggest
from fusionkit.registry import Method, MethodConfig, registry
from fusionkit.training.config import TrainConfig
from fusionkit.training.option_errors import Origins, describe_faults
from fusionkit.training.recipes import Recipe, find_recipe

_SECTIONS = ("model", "train", "data")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True)
class Settings:
    """Checked options of a run, and the data source's path where it has one."""

    model: MethodConfig
    train: TrainConfig
    data: DataConfig


def find_method(
    text: str, options: Mapping[str, Any] | None = None
) -> tuple[Method, dict[str, Any]]:
    """The method that ``NAME`` or ``NAME:MODALITY`` means, and options with the modality in them.

    Raises:
        UnknownNameError: no such method. ConfigError: it uses all modalities, or another one is
            asked for in ``options``.
    """
    name, colon, modality = text.partition(":")
    method: Method = registry().get("method", name)
    chosen = dict(options or {})
    if not colon:
        return method, chosen
    if not takes_modality(method):
        others = [n for n, e in registry().entries("method").items() if takes_modality(e.value)]
        raise ConfigError(
            f"{text}: {name} takes no modality behind a colon, only {', '.join(others)} does"
        )
    if not modality:
        raise ConfigError(f"{text!r}: the name of a modality must follow the colon")
    if chosen.get("modality", modality) != modality:
        raise ConfigError(
            f"{text}: the option 'modality' names another one, {chosen['modality']!r}; give one"
        )
    return method, {**chosen, "modality": modality}


def takes_modality(method: Method) -> bool:
    """Whether the method uses a single modality, which an option names."""
    return "modality" in method.config.model_fields


def resolve(
    method: Method,
    source: DataSource,
    *,
    path: str | None = None,
    preset: str | None = None,
    recipe: str | None = None,
    file: Path | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Settings:
    """Merge, from weak to strong: defaults, the method's, preset, recipe, YAML file, overrides.

    A recipe takes the place of all that the method says of training and data, so that every method
    is trained alike; of a preset the model's options remain.

    Args:
        path: what stands behind the colon of ``--data NAME:PATH``.
        overrides: section (model, train, data) -> key -> value.

    Raises:
        ConfigError: unknown section or key (with the nearest), or a value that does not fit.
    """
    layers: list[tuple[str, Recipe]] = [(f"method {method.name}", {"train": method.train_defaults})]
    if preset is not None:
        if preset not in method.presets:
            raise UnknownNameError(f"preset of {method.name}", preset, method.presets)
        layers.append((f"preset {preset!r}", method.presets[preset]))
    if recipe is not None:
        layers = [(origin, {"model": layer.get("model", {})}) for origin, layer in layers]
        layers.append((f"recipe {recipe!r}", find_recipe(recipe)))
    if file is not None:
        layers.append(("", _read(file)))
    layers.append(("", overrides or {}))
    sections: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    origins: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    for origin, layer in layers:
        for name, values in layer.items():
            if name not in sections:
                raise ConfigError(f"unknown section {name!r}{suggest(name, _SECTIONS)}")
            sections[name].update(values)
            origins[name].update(dict.fromkeys(values, origin))
    if path is not None:
        if "path" not in source.config.model_fields:
            raise ConfigError(f"data set {source.name!r} takes no path; write --data {source.name}")
        sections["data"]["path"] = path
    homes: dict[str, type[BaseModel]] = {
        "train": TrainConfig,
        "model": method.config,
        "data": source.config,
    }

    def check(config: type[Model], section: str, owner: str) -> Model:
        given = {key: origin for key, origin in origins[section].items() if origin}
        return _check(config, sections[section], owner, given, homes)

    return Settings(
        model=check(method.config, "model", method.name),
        train=check(TrainConfig, "train", "train"),
        data=check(source.config, "data", f"data {source.name}"),
    )


def parse_overrides(items: Sequence[str]) -> dict[str, dict[str, Any]]:
    """``["hidden_size=64", "train.epochs=3"]`` to sections; values are read as YAML.

    Raises:
        ConfigError: an item is not KEY=VALUE.
    """
    sections: dict[str, dict[str, Any]] = {name: {} for name in _SECTIONS}
    for item in items:
        key, separator, _ = item.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set {item!r}: write KEY=VALUE, for example hidden_size=64")
        try:
            content = OmegaConf.to_container(OmegaConf.from_dotlist([item]), resolve=True)
        except Exception as error:
            raise ConfigError(f"--set {item!r}: the value cannot be read: {error}") from None
        assert isinstance(content, dict)
        _check_colons(item, content)
        first = str(next(iter(content)))
        nested = content[first]
        is_section = key.split(".")[0] in _SECTIONS and isinstance(nested, dict)
        _merge(
            sections[first] if is_section else sections["model"], nested if is_section else content
        )
    return sections


def build_config(config: type[Model], values: Mapping[str, Any], owner: str) -> Model:
    """Check one configuration.

    Raises:
        ConfigError: one line a wrong field, with the nearest known key.
    """
    return _check(config, values, owner, {}, {"train": TrainConfig})


def _check(
    config: type[Model],
    values: Mapping[str, Any],
    owner: str,
    origins: Origins,
    homes: Mapping[str, type[BaseModel]],
) -> Model:
    try:
        return config(**values)
    except ValidationError as error:
        faults = describe_faults(error, config, owner, origins=origins, homes=homes)
        raise ConfigError(faults) from None


def _check_colons(item: str, content: Any) -> None:
    """YAML reads {a:0} as a key 'a:0' without a value."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if value is None and ":" in str(key):
                raise ConfigError(f"--set {item!r}: write a space behind the colon of {key!r}")
            _check_colons(item, value)


def _read(file: Path) -> dict[str, dict[str, Any]]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such configuration file") from None
    except Exception as error:
        raise ConfigError(f"{file}: not a YAML configuration: {error}") from error
    sections = content if isinstance(content, dict) else {"": content}
    read: dict[str, dict[str, Any]] = {}
    for name, values in sections.items():
        if not isinstance(values, dict | None):
            raise ConfigError(
                f"{file}: write sections model:, train: and data: with keys below them"
            )
        read[str(name)] = {str(key): value for key, value in (values or {}).items()}
    return read


def _merge(into: dict[str, Any], new: Mapping[Any, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[str(key)] = value
