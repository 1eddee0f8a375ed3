"""C{cms callbridge directory}: the user directories of a Callbridge."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from cms.callbridge.config import read_config
from cms.commands.common import (
    JSON,
    Row,
    Wrong,
    note,
    print_json,
    print_rows,
    running,
    where_text,
)
from cms.commands.configfile import CALLBRIDGE, config_option, find_config
from cms.control.daemon import Daemon
from cms.signalflow import counted

CONFIG = config_option(CALLBRIDGE)
_PLACE = "system/directories"
_EVERY = 0.2  # seconds between two looks at a sync
_COUNTS = {
    "users": "Users",
    "added": "Added",
    "changed": "Changed",
    "removed": "Removed",
    "disabled": "Disabled",
    "leftOut": "Left out",
    "sessionsEnded": "Sessions ended",
    "groups": "Groups",
}


@click.group("directory")
def directory() -> None:
    """The directories that users come from."""


@directory.command("status")
@click.argument("name", required=False)
@JSON
@CONFIG
def status(name: str | None, as_json: bool, config_file: Path | None) -> None:
    """Show how each directory is and what its last sync found, or NAME with who was left out."""
    daemon, place = _running(config_file)
    names = [name] if name else [each["name"] for each in _all(daemon)]
    found = [_one(daemon, each) for each in names]
    _show(found, as_json)
    note(f"asked {where_text('Callbridge', daemon, place)}")


@directory.command("sync")
@click.argument("name")
@click.option("--allow-removal", is_flag=True, help="However many users are gone or disabled.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=120.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait for its end; it goes on by itself.",
)
@JSON
@CONFIG
def sync(
    name: str, allow_removal: bool, wait: float, as_json: bool, config_file: Path | None
) -> None:
    """
    Read all users of the directory NAME now, and say what became of it.

    Exit status 1 when it failed, or is not over in time.
    """
    daemon, place = _running(config_file)
    form = {"allowRemoval": "true"} if allow_removal else {}
    daemon.post(f"{_PLACE}/{quote(name, safe='')}/sync", **form)
    ends = time.monotonic() + wait
    while (facts := _one(daemon, name))["running"] and time.monotonic() < ends:
        time.sleep(_EVERY)
    problem = facts.get("problem")
    if as_json or not problem:
        _show([facts], as_json)
    if facts["running"]:
        raise Wrong(f"the sync is not over after {wait:g} s; it goes on. Cure: ask for its status.")
    if problem:
        raise Wrong(_told(problem))
    note(f"asked {where_text('Callbridge', daemon, place)}")


def _running(config_file: Path | None) -> tuple[Daemon, Path]:
    config = read_config(find_config(config_file, CALLBRIDGE))
    cure = "start it; it syncs soon after, and cms check asks a directory without it."
    return running("Callbridge", config.state_dir, cure), config.state_dir


def _all(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.get(_PLACE)["directories"]["directory"]
    return found


def _one(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.get(f"{_PLACE}/{quote(name, safe='')}")["directory"]
    return found


def _show(found: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for facts in found:
        print_rows(list(_rows(facts)))


def _rows(facts: Mapping[str, Any]) -> Iterable[Row]:
    yield "Directory", facts["name"]
    yield "Kind", facts["kind"]
    for server in facts.get("servers", ()):
        yield f"Server {server['address']}", _of_server(server)
    if facts["running"]:
        yield "Sync", f"under way, {counted(facts.get('entriesRead', 0), 'entry', 'entries')} read"
    if facts["kind"] != "local":
        yield "Last sync", facts.get("ended") or "none yet"
    if facts.get("succeeded") != facts.get("ended"):
        yield "Last that succeeded", facts.get("succeeded") or "none yet"
    if "nextSeconds" in facts:
        yield "Next", f"in {facts['nextSeconds']} s"
    for key, title in _COUNTS.items():
        if key in facts:
            yield title, str(facts[key])
    problem = facts.get("problem")
    if problem:
        yield "Problem", _told(problem)
    for each in facts.get("leftOutEntries", ()):
        yield "Left out", f"{each['entry']}: {each['reason']}"


def _of_server(server: Mapping[str, Any]) -> str:
    if server.get("problem"):
        return f"fails: {_told(server['problem'])}"
    number = server["connections"]
    return counted(number, "connection") if number else "no connection is needed now"


def _told(problem: Mapping[str, Any]) -> str:
    return f"{problem['cause']} Cure: {problem['cure']}"
