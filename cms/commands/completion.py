"""C{cms completion}: the shells' completion scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

VARIABLE = "_CMS_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """
    Print what makes SHELL complete the words of cms.

    \b
    bash:  cms completion bash > ~/.local/share/bash-completion/completions/cms
    zsh:   cms completion zsh > ~/.zfunc/_cms     (with ~/.zfunc in fpath)
    fish:  cms completion fish > ~/.config/fish/completions/cms.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - of click's own
    click.echo(kind(context.find_root().command, {}, "cms", VARIABLE).source())
