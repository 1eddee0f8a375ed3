"""C{cms status}: whether each daemon does its job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cms.callbridge import config as callbridge_config
from cms.commands.common import JSON, note, print_json, print_rows
from cms.commands.daemon import Daemon, where_text
from cms.commands.files import CALLBRIDGE, SYSTEM, VARIABLE, XMPP, find_all, is_callbridge
from cms.xmpp import config as xmpp_config


@click.command()
@click.option(
    "--config",
    "config_files",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FILE",
    help="A configuration of either daemon; may be repeated. Default: what"
    f" {VARIABLE} names, else {XMPP} and {CALLBRIDGE} in the current folder or {SYSTEM}.",
)
@JSON
def status(config_files: tuple[Path, ...], as_json: bool) -> None:
    """
    Show whether the daemons of this host do their job.

    Exit status 1 when one of them does not: it is stopped, or has no link.
    """
    found = [_status(file) for file in find_all(config_files)]
    if as_json:
        print_json(found)
    for facts in found:
        if not as_json:
            print_rows(facts.items())
    if not all(facts["healthy"] for facts in found):
        raise SystemExit(1)


def _status(file: Path) -> dict[str, Any]:
    role, state_dir = _read(file)
    daemon = Daemon.find(state_dir)
    note(f"asked {where_text(role, daemon, state_dir)}")
    facts: dict[str, Any] = {"role": role, "configuration": file, "running": daemon is not None}
    if daemon is None:
        return {**facts, "healthy": False}
    return {**facts, **daemon.get("system/status")["status"]}


def _read(file: Path) -> tuple[str, Path]:
    if is_callbridge(file):
        return "Callbridge", callbridge_config.read_config(file).state_dir
    return "XMPP server", xmpp_config.read_config(file).state_dir
