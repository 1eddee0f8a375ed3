"""C{cms log}: what the record on disk says of log-ins and links."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from cms.commands.common import Complaint, note
from cms.commands.configfile import find_all
from cms.commands.instances import instances
from cms.commands.output import put
from cms.configuration.shared import STATE_DIR
from cms.configuration.tomlfile import read_toml
from cms.record.files import FOLDER, files_of, read
from cms.record.reading import Wanted, moment_of
from cms.record.steps import Entry
from cms.record.words import NAMES, moment_text, told
from cms.signalflow import counted, printable

FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=False)
_IDS = ("attempt", "link", "login")


@click.command("log")
@click.option("--user", metavar="USER", help="Only of this user: alice, or alice@meet.example.com.")
@click.option("--login", metavar="ID", help="Only this log-in, by its login_id of the log.")
@click.option("--attempt", metavar="ID", help="Only this attempt at a link, or this link.")
@click.option(
    "--since",
    metavar="WHEN",
    default="1d",
    show_default=True,
    help="Since when: 30min, 2h or 3d ago, or a time such as 2026-11-29T12:00:00Z.",
)
@click.option(
    "--last",
    type=click.IntRange(1, 1_000_000),
    default=200,
    show_default=True,
    help="The newest so many.",
)
@click.option(
    "--config",
    "config_files",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="Of the daemon; may be given twice. Default: those of this host.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an entry a line.")
def log(config_files: tuple[Path, ...], as_json: bool, **asked: Any) -> None:
    """
    Show who logged in, or could not and why, and what became of the links.

    It reads the record on the disk, whether the daemons run, are stopped or do not
    answer; what happened within the last second may be missing.  It tells apart a
    wrong password and a user that does not exist, which clients are not told.  Of a
    name that nobody has only the first character and the length are kept, because it
    may be a password in the wrong field; --user finds it by these.
    """
    try:
        moment = moment_of(asked["since"], time.time())
    except ValueError:
        told = "it is no time; write 30min, 2h or 3d, or 2026-11-29T12:00:00Z"
        raise click.BadParameter(told, param_hint="--since") from None
    user, login, attempt = (asked[name] or "" for name in ("user", "login", "attempt"))
    wanted = Wanted(user, login, attempt, moment, asked["last"])
    places = [place for file in find_all(config_files) for place in _places(file)]
    found = wanted.of(entry for place in places for entry in _entries(place, wanted))
    for entry in found:
        if not put(f"{json.dumps(entry, ensure_ascii=False) if as_json else _line(entry)}\n"):
            return
    if not any(files_of(place) for place in places):
        where = " or ".join(str(place / FOLDER) for place in places)
        note(f"there is no record in {where}: nothing has happened yet, or record.days is 0")
    else:
        entries = counted(len(found), "entry", "entries")
        note(f"{entries} since {moment_text({'at': moment})}")


def _line(entry: Entry) -> str:
    ids = " ".join(f"{name}={entry[name]}" for name in _IDS if entry.get(name))
    by = NAMES.get(str(entry.get("by")), "")
    return printable(f"{moment_text(entry)} {by}: {told(entry)}" + (f" [{ids}]" if ids else ""))


def _places(file: Path) -> Iterator[Path]:
    """The state directories of a configuration: its own, and those of instances."""
    values = read_toml(file)
    state_dir = file.parent / str(values.get("state_dir", STATE_DIR))
    yield state_dir
    for name in instances(state_dir):
        yield state_dir / name


def _entries(place: Path, wanted: Wanted) -> Iterator[Entry]:
    try:
        yield from read(place, wanted.since, wanted.needles)
    except OSError as problem:
        cure = "run the command as the user of the daemon, or as root."
        raise Complaint(f"{place / FOLDER}: {problem.strerror}. Cure: {cure}") from None
