"""C{cms flow}: the command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import click

from cms.commands.common import not_running, note
from cms.commands.configfile import CALLBRIDGE, SYSTEM, VARIABLE, XMPP, find_all
from cms.commands.output import put
from cms.configuration.shared import STATE_DIR
from cms.control.daemon import PATIENCE, Daemon, NotRunning
from cms.diagram.sequence import Attempt, Diagram, ended, heading, mermaid
from cms.state.textencoding import Unreadable, plain_text

POLL = 0.5  # seconds between two looks with --follow
FILE = click.Path(path_type=Path, exists=True, dir_okay=False, readable=False)
_ASCII = str.maketrans("│─═▶◀…", "|-=><~")


@click.command()
@click.option(
    "--config",
    "config_file",
    type=FILE,
    metavar="FILE",
    help=f"Of the running daemon. Default: what {VARIABLE} names, else {CALLBRIDGE} or {XMPP}"
    f" in the current folder or {SYSTEM}.",
)
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C, and show what happens.")
@click.option("--mermaid", "as_mermaid", is_flag=True, help="Print a diagram for a document.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
@click.option(
    "--last", type=click.IntRange(1, 100), default=5, show_default=True, help="How many attempts."
)
def flow(
    config_file: Path | None, follow: bool, as_mermaid: bool, as_json: bool, last: int
) -> None:
    """Show the recent attempts of a running daemon as a sequence diagram."""
    if follow + as_mermaid + as_json > 1:
        raise click.UsageError("choose one of --follow, --mermaid and --json")
    whole = mermaid if as_mermaid else _json if as_json else None
    if config_file is None:
        config_file = find_all(())[-1]  # the Callbridge's, where there are both
        note(f"asks the daemon of {config_file}")
    view = _View(_state_dir(config_file), last)
    with contextlib.suppress(KeyboardInterrupt):  # how --follow ends
        view.run(follow, whole)


def _json(attempts: list[Attempt]) -> str:
    return json.dumps(attempts, indent=2, ensure_ascii=False)


def _state_dir(file: Path) -> Path:
    """C{state_dir}, which both daemons name alike."""
    try:
        values = tomllib.loads(plain_text(file.read_bytes()))
    except Unreadable as problem:
        raise click.UsageError(f"{file} {problem.problem}. Cure: {problem.mend}") from None
    except (OSError, tomllib.TOMLDecodeError) as problem:
        raise click.UsageError(f"{file} cannot be read: {problem}") from None
    return file.absolute().parent / str(values.get("state_dir", STATE_DIR))


class _View:
    def __init__(self, state_dir: Path, last: int) -> None:
        self._state_dir = state_dir
        self._daemon = Daemon(state_dir, PATIENCE)
        self._last = last
        self._shown: dict[str, int] = {}
        self._current = ""
        terminal = sys.stdout.isatty()
        self._signs = {} if "utf" in (sys.stdout.encoding or "").lower() else _ASCII
        width = shutil.get_terminal_size((120, 24)).columns
        self._diagram = Diagram(width, colour=terminal and "NO_COLOR" not in os.environ)

    def run(self, follow: bool, whole: Callable[[list[Attempt]], str] | None) -> None:
        """
        @param whole: Makes one document of all attempts, in place of the diagram.
        """
        try:
            attempts = self._ask()
            if whole is not None:
                put(f"{whole(attempts)}\n")
                return
            self._show(attempts)
            if not attempts:
                put("no attempt yet\n")
            while follow:
                time.sleep(POLL)
                self._show(self._ask())
        except NotRunning:
            raise not_running("daemon", self._state_dir, "start it.") from None

    def _ask(self) -> list[Attempt]:
        """The last attempts, the oldest first."""
        return list(reversed(self._daemon.attempts(self._last)))

    def _show(self, attempts: list[Attempt]) -> None:
        """What was not shown yet."""
        for attempt in attempts:
            name, kind = str(attempt["id"]), str(attempt.get("kind", "link"))
            records = ended(attempt)
            new = records[self._shown.get(name, 0) :]
            if not new:
                continue
            if name != self._current:
                self._current = name
                self._echo(["", heading(attempt), *self._diagram.head(kind)])
            for record in new:
                self._echo(self._diagram.draw(record, kind))
            self._shown[name] = len(records)
        known = {str(attempt["id"]) for attempt in attempts}
        self._shown = {name: count for name, count in self._shown.items() if name in known}

    def _echo(self, lines: list[str]) -> None:
        if not put("".join(f"{line}\n" for line in lines).translate(self._signs)):
            raise SystemExit(0)  # nobody reads on
