"""``fusionkit completion``: the script that makes a shell complete commands and names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of SHELL; for bash: eval "$(fusionkit completion bash)"."""
    from fusionkit.cli.main import cli

    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(cli, {}, "fusionkit", "_FUSIONKIT_COMPLETE").source())
