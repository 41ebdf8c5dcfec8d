"""The console that every command prints to."""

from __future__ import annotations

from rich.console import Console


def make_console() -> Console:
    """A console that shows text as it is: paths and plugins' words are no markup."""
    return Console(markup=False, highlight=False, emoji=False)
