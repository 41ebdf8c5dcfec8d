"""The ``fusionkit`` command: finds subcommands, plugins' too, and turns errors into exit codes.

Exit codes: 0 done, 1 the work failed, 2 misuse (unknown name, bad option).
"""

from __future__ import annotations

import importlib
import sys
from typing import Any, NoReturn

import click

from fusionkit._version import __version__
from fusionkit.errors import FusionKitError, suggest

_COMMANDS = {
    "list": "listing",
    "info": "info",
    "doctor": "doctor",
    "train": "train",
    "compare": "compare",
    "ablate": "ablate",
    "evaluate": "evaluate",
    "predict": "predict",
    "explain": "explain",
    "convert-checkpoint": "convert_checkpoint",
    "bench": "bench",
    "completion": "completion",
}


class FusionKitGroup(click.Group):
    """Imports a subcommand when it is called; loads plugins' commands when they may be meant."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load_plugin_commands()
        return [*_COMMANDS, *sorted(self.commands)]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in _COMMANDS:
            module = importlib.import_module(f"fusionkit.cli.{_COMMANDS[name]}")
            command: click.Command = module.command
            return command
        self._load_plugin_commands()
        return super().get_command(ctx, name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            ctx.fail(f"no command {args[0]!r}{suggest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FusionKitError as error:
            _fail(ctx, str(error), error.exit_code)
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            file = f"{error.filename}: " if error.filename else ""
            _fail(ctx, f"{file}{error.strerror or error}", 1)
        except MemoryError as error:
            _fail(ctx, f"not enough memory: {error}", 1)
        except RuntimeError as error:
            if "alloc" not in str(error):
                raise
            _fail(ctx, f"not enough memory: {str(error).splitlines()[0]}", 1)

    def _load_plugin_commands(self) -> None:
        if not getattr(self, "_loaded", False):
            self._loaded = True
            from fusionkit.registry import registry

            registry().add_commands(self)


def _fail(ctx: click.Context, message: str, code: int) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    ctx.exit(code)


@click.group(cls=FusionKitGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fusionkit")
def cli() -> None:
    """Fuse sequences of several modalities: train, compare and predict."""


def main() -> NoReturn:
    """Entry point of the console script and of ``python -m fusionkit``."""
    try:
        sys.exit(cli.main(prog_name="fusionkit"))
    except FusionKitError as error:  # raised while the help is made, outside any command
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
