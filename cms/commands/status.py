"""C{cms status}: whether each daemon does its job."""

from __future__ import annotations

from pathlib import Path

import click

from cms.callbridge import config as callbridge_config
from cms.commands.common import JSON, Row, as_facts, note, print_blocks, print_json, where_text
from cms.commands.configfile import CALLBRIDGE, SYSTEM, VARIABLE, XMPP, find_all, is_callbridge
from cms.commands.daemonstate import DaemonState
from cms.control.daemon import Daemon
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
    found = [_ask(file) for file in find_all(config_files)]
    if as_json:
        print_json([{**as_facts(rows), **state.facts()} for rows, state in found])
    else:
        print_blocks([*rows, *state.rows()] for rows, state in found)
    if not all(state.healthy for _, state in found):
        raise SystemExit(1)


def _ask(file: Path) -> tuple[list[Row], DaemonState]:
    role, state_dir = _read(file)
    daemon = Daemon.find(state_dir)
    note(f"asked {where_text(role, daemon, state_dir)}")
    return [("Role", role), ("Configuration", file)], DaemonState.of(daemon)


def _read(file: Path) -> tuple[str, Path]:
    if is_callbridge(file):
        return "Callbridge", callbridge_config.read_config(file).state_dir
    return "XMPP server", xmpp_config.read_config(file).state_dir
