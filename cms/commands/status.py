"""C{cms status}: whether each daemon does its job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from cms.callbridge import config as callbridge_config
from cms.commands.common import JSON, Row, as_facts, note, print_blocks, print_json, where_text
from cms.commands.configfile import CALLBRIDGE, SYSTEM, VARIABLE, XMPP, find_all, is_callbridge
from cms.commands.daemonstate import DaemonState
from cms.commands.instances import INSTANCE, instances, named
from cms.control.daemon import ControlError, Daemon, Forbidden
from cms.xmpp import config as xmpp_config

SERVER = "XMPP server"


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
@INSTANCE
@JSON
def status(config_files: tuple[Path, ...], as_json: bool) -> None:
    """
    Show whether the daemons of this host do their job.

    Exit status 1 when one of them does not: it is stopped, or has no link.
    """
    found = [each for file in find_all(config_files) for each in _ask_all(file)]
    if as_json:
        print_json([{**as_facts(rows), **state.facts()} for rows, state in found])
    else:
        print_blocks([*rows, *state.rows()] for rows, state in found)
    if not all(state.healthy for _, state in found):
        raise SystemExit(1)


def _ask_all(file: Path) -> Iterator[tuple[list[Row], DaemonState]]:
    """The daemon of a file, or each server that shares it."""
    role, state_dir = _read(file)
    rows: list[Row] = [("Role", role), ("Configuration", file)]
    there = [named()] if named() else list(instances(state_dir)) if role == SERVER else []
    for instance in there:
        yield _ask(role, state_dir / instance, [*rows, ("Instance", instance)], file)
    if not there:
        yield _ask(role, state_dir, rows, file)


def _changed(file: Path, status: Mapping[str, Any]) -> list[Row]:
    """Whether a configuration that is looked at was not read yet."""
    if not status or file.stat().st_mtime <= time.time() - status["uptimeSeconds"]:
        return []
    return [("Changed", f"{file.name} since the start; it counts from the next")]


def _ask(role: str, state_dir: Path, rows: list[Row], file: Path) -> tuple[list[Row], DaemonState]:
    try:
        daemon = Daemon.find(state_dir)
        state = DaemonState.of(daemon)
    except Forbidden:
        raise
    except ControlError as problem:  # the others are shown all the same
        return rows, DaemonState.silent(problem)
    note(f"asked {where_text(role, daemon, state_dir)}")
    return [*rows, *_changed(file, state.status)], state


def _read(file: Path) -> tuple[str, Path]:
    if is_callbridge(file):
        return "Callbridge", callbridge_config.read_config(file).state_dir
    return SERVER, xmpp_config.read_config(file).state_dir
