"""What is compared: ``METHOD[,OPTION=VALUE...]`` with checked options, and the seeds."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fusionkit.data.source import DataSource
from fusionkit.errors import ConfigError
from fusionkit.registry import Method, registry
from fusionkit.training.settings import Settings, find_method, parse_overrides, resolve

_LONGEST_FOLDER = 120
Sections = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Variant:
    """A method with its options.

    Args:
        label: as it stands in the table, and unique in a comparison.
    """

    label: str
    method: Method
    settings: Settings

    @property
    def folder(self) -> str:
        """The label as the name of a folder, different for different labels."""
        name = quote(self.label, safe="=,:+")
        if len(name) <= _LONGEST_FOLDER:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()
        return f"{name[: _LONGEST_FOLDER - 13]}-{digest[:12]}"


def make_variant(
    text: str,
    source: DataSource,
    *,
    path: str | None = None,
    recipe: str | None = None,
    overrides: Sections | None = None,
    label: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Variant:
    """Read ``METHOD[:MODALITY][,OPTION=VALUE...]``.

    An option is one of the model, ``train.KEY`` or ``preset``, and stronger than the overrides.

    Args:
        source, path: the data. recipe: name of a training recipe.
        overrides: section -> options of all variants. label: in place of the text.
        extra: options of the model that are stronger than all others.

    Raises:
        ConfigError, UnknownNameError: with the key and the nearest one.
    """
    name, *items = split_options(text)
    presets = [item.partition("=")[2] for item in items if item.startswith("preset=")]
    own = parse_overrides([item for item in items if not item.startswith("preset=")])
    if own["data"]:
        key = next(iter(own["data"]))
        raise ConfigError(
            f"{text}: 'data.{key}' would give this method other data than the rest; set it for all "
            f"with --set data.{key}=..."
        )
    if len(presets) > 1:
        raise ConfigError(f"{text}: one preset at most")
    common = overrides or {}
    method, model = find_method(name, {**common.get("model", {}), **own["model"]})
    settings = resolve(
        method,
        source,
        path=path,
        preset=presets[0] if presets else None,
        recipe=recipe,
        overrides={
            "model": {**model, **(extra or {})},
            "train": {**common.get("train", {}), **own["train"]},
            "data": common.get("data", {}),
        },
    )
    return Variant(label or ",".join([name, *items]), method, settings)


def split_options(text: str) -> list[str]:
    """Split at commas outside brackets and quotes.

    >>> split_options("mmlatch,encoder_layers={text: 2, audio: 1},mask=null")
    ['mmlatch', 'encoder_layers={text: 2, audio: 1}', 'mask=null']
    """
    parts, depth, quoted = [""], 0, ""
    for letter in text:
        if quoted:
            quoted = "" if letter == quoted else quoted
        elif letter in "'\"":
            quoted = letter
        elif letter in "[{(":
            depth += 1
        elif letter in "]})":
            depth -= 1
        if letter == "," and depth == 0 and not quoted:
            parts.append("")
        else:
            parts[-1] += letter
    parts = [part.strip() for part in parts]
    if depth or quoted or not all(parts):
        raise ConfigError(f"{text!r}: write METHOD,OPTION=VALUE,... with brackets that close")
    return parts


def compared_variants(
    methods: Sequence[str], baseline: str | None, source: DataSource, **options: Any
) -> tuple[list[Variant], str | None]:
    """The methods, with the baseline among them, and the baseline's label.

    Args:
        methods, baseline: as `make_variant` reads them. options: of `make_variant`.

    Raises:
        ConfigError: there is none, or one that is named twice.
    """
    if not methods:
        raise ConfigError("name at least one method to compare")
    variants = [make_variant(text, source, **options) for text in methods]
    if baseline is not None:
        partner = make_variant(baseline, source, **options)
        baseline = partner.label
        if all(variant.label != baseline for variant in variants):
            variants.append(partner)
    check_labels(variants)
    return variants, baseline


def ablated_variants(text: str, source: DataSource, **options: Any) -> list[Variant]:
    """The whole method first, then one variant for each of `Method.ablations`.

    Args:
        text: as `make_variant` reads it. options: of `make_variant`.

    Raises:
        ConfigError: the method names no ablations, or one changes nothing.
    """
    full = make_variant(text, source, **options)
    if not full.method.ablations:
        known = [n for n, e in registry().entries("method").items() if e.value.ablations]
        raise ConfigError(
            f"{full.method.name} names no parts to switch off; these methods do: "
            + (", ".join(known) or "none")
        )
    variants = [full]
    for name, parts in full.method.ablations.items():
        variant = make_variant(text, source, **options, label=name, extra=parts)
        if variant.settings == full.settings:
            raise ConfigError(f"the ablation {name!r} changes nothing: the options have it already")
        variants.append(variant)
    check_labels(variants)
    return variants


def check_labels(variants: Sequence[Variant]) -> None:
    """Refuse a variant that is named twice.

    Raises:
        ConfigError: two have one label.
    """
    labels = [variant.label for variant in variants]
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise ConfigError(f"{twice[0]!r} is named twice; name each method with its options once")


def default_folder(kind: str, data: str, variants: Sequence[Variant]) -> Path:
    """``runs/KIND-DATA-HASH`` below the working directory: the same for the same options."""
    options = [
        (v.label, *(s.model_dump_json() for s in vars(v.settings).values())) for v in variants
    ]
    digest = hashlib.sha256(repr((data, options)).encode()).hexdigest()
    return Path("runs") / f"{kind}-{data.split(':')[0]}-{digest[:8]}"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read ``0-4``, ``0,1,7`` or a mixture.

    >>> parse_seeds("0-2,7")
    (0, 1, 2, 7)

    Raises:
        ConfigError: it is none of these, a seed is named twice or is no 32-bit number.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})(?:\s*-\s*(\d{1,10}))?\s*", part)
        if found is None:
            raise ConfigError(f"seeds: {text!r} cannot be read; write 0-4 or 0,1,7")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise ConfigError(f"seeds: {part.strip()!r} runs backwards; write {last}-{first}")
        if last >= 2**32:
            raise ConfigError(f"seeds: {last} is too large; seeds are below 2**32")
        if last - first >= 1000:
            raise ConfigError(f"seeds: {part.strip()!r} are {last - first + 1} seeds; 1000 at most")
        seeds += range(first, last + 1)
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise ConfigError(f"seeds: {twice[0]} is named twice in {text!r}")
    return tuple(seeds)
