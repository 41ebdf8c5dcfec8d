"""Arguments that name something registered: completed by the shell, suggested when misspelt."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from fusionkit.registry import registry
from fusionkit.registry.manager import Kind


class RegisteredName(click.ParamType[str]):
    """A registered name of one kind; the look-up itself, with its error, is the command's."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        self.name = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(n) for n in registry().names(self.kind) if n.startswith(incomplete)]
