"""Arguments that name something registered: completed by the shell, suggested when misspelt."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from fusionkit.registry import registry
from fusionkit.registry.manager import Kind


class RegisteredName(click.ParamType[str]):
    """A registered name of some kinds; the look-up itself, with its error, is the command's."""

    def __init__(self, *kinds: Kind) -> None:
        self.kinds = kinds
        self.name = kinds[0]

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = {name for kind in self.kinds for name in registry().names(kind)}
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]
