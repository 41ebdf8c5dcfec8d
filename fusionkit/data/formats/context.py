"""Which arrays of a file tell something of each sample as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fusionkit.data.formats.npz_file import Arrays, lengths_name
from fusionkit.errors import ConfigError, suggest


def choose_context(
    names: Sequence[str], arrays: Arrays, modalities: Sequence[str], target: str, where: str
) -> Arrays:
    """The arrays that ``data.context`` names, whatever they hold: `validate_store` checks that.

    Args:
        arrays: of the file ``where``. modalities, target: what other options take of them.

    Raises:
        ConfigError: there is no such array, it is named twice or taken, or it is the target.
    """
    taken = {"id", *modalities, *map(lengths_name, modalities)}
    for name in names:
        if name in taken:
            raise ConfigError(
                f"context: {name!r} of {where} has another meaning; name an array that says "
                "something of each sample"
            )
        if name not in arrays:
            raise ConfigError(f"context: {where} has no array {name!r}{suggest(name, arrays)}")
        if np.array_equal(_text(arrays[name]), _text(arrays[target])):
            raise ConfigError(
                f"context: {name!r} of {where} is the target or its copy, which would tell the "
                "answer; leave it out"
            )
        if list(names).count(name) > 1:
            raise ConfigError(f"context: {name!r} of {where} is named twice; name each array once")
    return {name: arrays[name] for name in names}


def _text(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Numbers as the text that contexts are compared by: 3 and "3" say the same."""
    return values.astype(str) if values.dtype.kind in "iu" else values
