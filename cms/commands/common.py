"""Common parts of the commands: errors and output."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pwd
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cms.callbridge.spaces.model import SpaceError
from cms.control.daemon import ControlError, Daemon, Forbidden, Refused
from cms.signalflow import StepError, printable
from cms.state.database import StoreError, StoreUnusable
from cms.xmpp.callbridges import FixedCallbridge
from cms.xmpp.callbridgestore import CallbridgeExists, UnknownCallbridge

Row = tuple[str, object]
Rows = Iterable[Row]

_MOST_INPUT = 65_536  # characters of a line of standard input
# The API's cures name its methods; commands need other words.
_CURES = {
    "callBridgeDoesNotExist": "cms xmpp callbridge list shows them.",
    "callBridgeAlreadyExists": "cms xmpp callbridge rotate changes its secret.",
    "userDoesNotExist": "cms callbridge user list shows them.",
    "userAlreadyExists": "cms callbridge user passwd changes its password.",
    "coSpaceDoesNotExist": "cms callbridge space list shows them.",
    "coSpaceUserDoesNotExist": "cms callbridge space member list shows them.",
    "notFound": "Bring the command and the daemon to the same version.",
    "methodNotAllowed": "Bring the command and the daemon to the same version.",
    "unknownParameter": "Bring the command and the daemon to the same version.",
    "internalError": "See the daemon's log: journalctl -u cms-xmpp or -u cms-callbridge.",
}


class Complaint(click.ClickException):
    """Something is wrong with usage or configuration."""

    exit_code = 2


class Wrong(click.ClickException):
    """The thing asked about is wrong, or is not there."""

    exit_code = 1


def in_the_way(file: Path) -> Wrong:
    """What a command says that writes a new file."""
    more = ", or remove it" if file.is_file() else ""  # not a device
    return Wrong(f"{file} exists. Cure: name another file{more}.")


def not_running(role: str, state_dir: Path, cure: str) -> Wrong:
    """What a command says that needs a daemon."""
    return Wrong(f"no {role} runs on {state_dir}. Cure: {cure}")


def running(role: str, state_dir: Path, cure: str) -> Daemon:
    """
    The daemon that runs on a state directory, for a command that needs one.

    @raise Wrong: none does.
    """
    daemon = Daemon.find(state_dir)
    if daemon is None:
        raise not_running(role, state_dir, cure)
    return daemon


class Root(click.Group):
    """The whole command line: what its commands raise becomes one line and a status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(
                stream, io.TextIOWrapper
            ):  # do not fail because a terminal cannot show a character
                stream.reconfigure(errors="replace")
        try:
            return super().invoke(ctx)
        except StepError as error:
            raise Complaint(f"{error.cause} Cure: {error.cure}") from None
        except (UnknownCallbridge, CallbridgeExists) as problem:
            raise Wrong(f"{problem}. Cure: cms xmpp callbridge list shows them.") from None
        except FixedCallbridge as problem:
            raise Wrong(str(problem)) from None
        except SpaceError as problem:
            cure = _CURES.get(problem.reason, problem.cure)
            raise Wrong(str(ControlError(problem.cause, cure))) from None
        except StoreUnusable as problem:
            raise Complaint(f"{problem.fault.cause} Cure: {problem.fault.cure}") from None
        except StoreError as problem:
            raise Complaint(str(problem)) from None
        except Forbidden as problem:
            raise Complaint(str(problem)) from None
        except Refused as problem:
            cure = _CURES.get(problem.reason, problem.cure)
            raise Wrong(str(ControlError(problem.problem, cure))) from None
        except ControlError as problem:
            raise Wrong(str(problem)) from None


def inherited(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """The value of an option, or the one that was given to the group before the command."""
    above = context.parent
    while not value and above is not None:
        value = above.params.get(parameter.name or "")
        above = above.parent
    return value


JSON = click.option(
    "--json", "as_json", is_flag=True, callback=inherited, help="Print JSON on standard output."
)


def check_owner(state_dir: Path) -> None:
    """
    Refuse that root writes into another user's state directory: the daemon could not use the
    files.

    @raise Complaint: it would be.
    """
    with contextlib.suppress(FileNotFoundError):
        owner = state_dir.stat().st_uid
        if os.geteuid() == 0 and owner != 0:
            try:
                name = pwd.getpwuid(owner).pw_name
            except KeyError:
                name = f"#{owner}"
            raise Complaint(
                f"{state_dir} belongs to {name}. Cure: as that user, sudo -u '{name}' cms ..."
            )


def note(text: str) -> None:
    """Print a line on standard error."""
    click.echo(f"cms: {printable(text)}", err=True)


def where_text(role: str, daemon: Daemon | None, state_dir: Path) -> str:
    """Where something was done, for people."""
    if daemon is not None:
        return f"by the running {role} ({daemon.path})"
    return f"in {state_dir} (no {role} runs on it)"


def print_json(value: object) -> None:
    """Print a value, an item a line."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def as_facts(rows: Rows) -> dict[str, Any]:
    """Rows with names as in the API: C{Key file} becomes C{keyFile}."""
    facts = {}
    for key, value in rows:
        first, *others = key.split()
        facts[first[0].lower() + first[1:] + "".join(o[0].upper() + o[1:] for o in others)] = value
    return facts


def print_rows(rows: Rows) -> None:
    """Print C{Key : value} lines, aligned."""
    shown = [(key, _shown(value)) for key, value in rows]
    width = max((len(key) for key, _ in shown), default=0)
    for key, value in shown:
        click.echo(f"{key:{width}} : {value}".rstrip())


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ", ".join(_shown(part) for part in value) or "none"
    return printable(str(value))


def print_blocks(blocks: Iterable[Rows]) -> None:
    """Print several blocks of rows, with C{***} around each."""
    for rows in blocks:
        click.echo("***")
        print_rows(rows)
    click.echo("***")


def when(seconds: float | None) -> str | None:
    """A time, in UTC."""
    if seconds is None:
        return None
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def line_of_input() -> str:
    """
    The first line of standard input, without its end.

    @raise Wrong: it is no text, or does not end.
    """
    try:
        line = sys.stdin.readline(_MOST_INPUT + 1)
    except UnicodeDecodeError as problem:
        cure = "write it in that encoding."
        raise Wrong(f"standard input is not {problem.encoding.upper()}. Cure: {cure}") from None
    if len(line) > _MOST_INPUT:
        raise Wrong(f"the line has more than {_MOST_INPUT} characters. Cure: give a shorter one.")
    return line.rstrip("\r\n")


def read_secret(prompt: str, *, from_stdin: bool, twice: bool = True) -> str:
    """A password or secret: the first line of standard input, or asked for."""
    if from_stdin:
        return line_of_input()
    return str(click.prompt(prompt, hide_input=True, confirmation_prompt=twice))
