"""The errors that a user sees: one sentence each, naming the file or field and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FusionKitError(Exception):
    """The work failed. The command line prints the message and exits with ``exit_code``."""

    exit_code = 1


class MisuseError(FusionKitError):
    """The request itself is wrong (unknown name, bad option): exit code 2."""

    exit_code = 2


class ConfigError(MisuseError):
    """A configuration key or value is not accepted."""


class UnknownNameError(MisuseError, LookupError):
    """A method, data set, metric set or callback that nobody registered."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        super().__init__(f"unknown {kind} {name!r}{suggest(name, known)}{hint}")
        self.kind, self.name, self.known = kind, name, known


class PluginError(FusionKitError):
    """A plugin could not be imported, or two plugins claim one name."""


class RunExistsError(MisuseError):
    """The run folder is there already; runs are never overwritten."""


class DataError(FusionKitError):
    """Data that cannot be used as they are."""


class CheckpointError(FusionKitError):
    """A checkpoint or run folder that is truncated, foreign, or cannot be written."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known name, and all of them if they are few.

    >>> suggest("mmlach", ["mmlatch", "msaf"])
    "; did you mean 'mmlatch'? Known: mmlatch, msaf"
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    listing = ", ".join(known) if known else "none"
    if len(known) > 40:
        return hint
    return f"{hint} Known: {listing}" if hint else f"; known: {listing}"
