"""Which of the XMPP servers of this host that share a configuration file a command is about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from cms.commands.common import Complaint
from cms.commands.configfile import XMPP, find_config
from cms.control.place import LOCK
from cms.xmpp.config import XmppConfig, read_config
from cms.xmpp.instances import is_name, of_instance

_META = "cms.instance"


def _note(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        context.meta[_META] = value  # a group's are its commands' too


INSTANCE = click.option(
    "--instance",
    metavar="NAME",
    callback=_note,
    expose_value=False,
    help="Of several servers of this host with one configuration: which one (cms-xmpp@NAME).",
)


def named() -> str:
    """The instance that this command is about; empty: none was named."""
    return str(click.get_current_context().meta.get(_META, ""))


def instances(state_dir: Path) -> Iterator[str]:
    """
    The instances that have been started, in order.

    @param state_dir: That of the file.
    """
    try:
        folders = sorted(state_dir.iterdir())
    except OSError:
        return  # there is none, or it is another user's
    for folder in folders:
        if is_name(folder.name) and (folder / LOCK).exists():
            yield folder.name


def server_config(config_file: Path | None) -> XmppConfig:
    """
    The configuration of the server that the command is about.

    @raise Complaint: there are several, and none was named.
    """
    config, instance = read_config(find_config(config_file, XMPP)), named()
    there = [] if instance else list(instances(config.state_dir))
    if there:
        raise Complaint(
            f"several servers have {config.file}: {', '.join(there)}."
            f" Cure: name one, such as --instance {there[0]}."
        )
    return of_instance(config, instance)
