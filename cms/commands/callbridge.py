"""C{cms callbridge}: a Callbridge's configuration and state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cms.callbridge.config import CallbridgeConfig, read_config
from cms.commands.common import JSON, note, print_json, print_rows
from cms.commands.daemon import Daemon, where_text
from cms.commands.files import CALLBRIDGE, config_option, find_config
from cms.commands.users import user

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
    config = read_config(find_config(config_file, CALLBRIDGE))
    daemon = Daemon.find(config.state_dir)
    status: dict[str, Any] = daemon.get("system/status")["status"] if daemon else {}
    if as_json:
        print_json({"running": daemon is not None, "status": status})
    else:
        print_rows(_rows(config, daemon, status))
    note(f"asked {where_text('Callbridge', daemon, config.state_dir)}")


callbridge.add_command(user)


def _rows(
    config: CallbridgeConfig, daemon: Daemon | None, status: dict[str, Any]
) -> list[tuple[str, object]]:
    return [
        ("Running", daemon is not None),
        *status.items(),
        ("Configuration", config.file),
        ("State directory", config.state_dir),
        ("Unique name", config.unique_name),
        ("Domain", config.link.domain),
        ("Component address", config.link.component),
        ("Server address", config.link.server or "by SRV"),
        ("Key file", config.key),
        ("Certificate file", config.certificate),
        ("Trust bundle", config.trust or "the system's CAs"),
        ("Guests", config.allow_guests),
    ]
