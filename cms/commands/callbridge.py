"""C{cms callbridge}: a Callbridge's configuration and state."""

from __future__ import annotations

from pathlib import Path

import click

from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.settings import current_config
from cms.commands.common import JSON, Row, as_facts, note, print_json, print_rows, where_text
from cms.commands.configfile import CALLBRIDGE, config_option, find_config
from cms.commands.daemonstate import DaemonState
from cms.commands.directories import directory
from cms.commands.linkcommands import reconnect, secret
from cms.commands.locks import lock_group
from cms.commands.spaces import space
from cms.commands.users import user
from cms.control.daemon import Daemon

CONFIG = config_option(CALLBRIDGE)


@click.group(invoke_without_command=True)
@JSON
@CONFIG
@click.pass_context
def callbridge(context: click.Context, as_json: bool, config_file: Path | None) -> None:
    """
    Show or administer a Callbridge.

    Without a command the configuration is printed, and the link if it runs.
    """
    if context.invoked_subcommand is not None:
        return
    config = current_config(find_config(config_file, CALLBRIDGE))
    daemon = Daemon.find(config.state_dir)
    state = DaemonState.of(daemon)
    if as_json:
        print_json({**as_facts(_rows(config)), **state.facts()})
    else:
        print_rows([*state.rows(), *_rows(config)])
    note(f"asked {where_text('Callbridge', daemon, config.state_dir)}")


def _state_dir(config_file: Path | None) -> Path:
    return current_config(find_config(config_file, CALLBRIDGE)).state_dir


callbridge.add_command(directory)
callbridge.add_command(lock_group(CALLBRIDGE, _state_dir))
callbridge.add_command(reconnect)
callbridge.add_command(secret)
callbridge.add_command(space)
callbridge.add_command(user)


def _rows(config: CallbridgeConfig) -> list[Row]:
    source = "set by API or page" if config.source == "api" else "of the file"
    return [
        ("Settings", source),
        ("Configuration", config.file),
        ("State directory", config.state_dir),
        ("Unique name", config.unique_name),
        ("Domain", config.link.domain),
        ("Component address", config.link.component),
        ("Server address", config.link.server or "by SRV"),
        ("Key file", config.tls.key),
        ("Certificate file", config.tls.certificate),
        ("Trust bundle", config.tls.trust or "the system's CAs"),
        ("Guests", config.allow_guests),
    ]
