"""C{cms callbridge user export} and C{import}: many users at once."""

from __future__ import annotations

import csv
import io
import os
import secrets
import string
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
from attrs import asdict, evolve

from cms.callbridge.config import CallbridgeConfig
from cms.callbridge.directories import exchange
from cms.callbridge.directories.exchange import Entry, Existing, Reading, compare, take
from cms.callbridge.directories.store import UserStore
from cms.callbridge.passwords.scram import DEFAULT_ITERATIONS, HASHES, SALT_BYTES, derive
from cms.callbridge.settings import current_config
from cms.commands.common import JSON, Complaint, Wrong, check_owner, in_the_way, note, print_json
from cms.commands.configfile import CALLBRIDGE, config_option, find_config
from cms.commands.namesakes import tell_namesakes
from cms.control.daemon import Daemon
from cms.signalflow import counted

CONFIG = config_option(CALLBRIDGE)
_MOST_TOLD = 100  # problems
_LETTERS = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))
_LENGTH = 16  # of a password that is made: 92 bits
_FILE = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


@click.command("export")
@click.argument("file", type=_FILE)
@click.option("--csv", "as_csv", is_flag=True, help="Names alone, as CSV, without any keys.")
@JSON
@CONFIG
def export(file: Path, as_csv: bool, as_json: bool, config_file: Path | None) -> None:
    """
    Write all users of the local store with their SCRAM keys into FILE; - is standard output.

    The keys let nobody log in, but whoever has them can guess passwords without asking
    the Callbridge: only its owner can read FILE.  cms callbridge user import reads it.
    """
    config, store = _open(config_file)
    domain = config.link.domain
    if as_csv:
        lines: Iterable[str] = _csv(exchange.names(store, domain))
    else:
        lines = exchange.written(store, domain)
    number = _write(file, lines) - 1
    if as_json and str(file) != "-":
        print_json({"file": str(file), "users": number})
    note(f"wrote {counted(number, 'user')} of {domain}")


@click.command("import")
@click.argument("file", type=_FILE)
@click.option(
    "--existing",
    type=click.Choice(("refuse", "keep", "replace")),
    default="refuse",
    show_default=True,
    help="What becomes of a user who is there already.",
)
@click.option(
    "--allow-weaker",
    is_flag=True,
    help="Take keys with fewer iterations than those that are there, or that are made here.",
)
@click.option(
    "--allow-one-mechanism",
    is_flag=True,
    help="Take keys for SCRAM-SHA-1 or SCRAM-SHA-256 alone; login.mechanisms has to fit them.",
)
@click.option(
    "--make-passwords",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CSV",
    help="Make passwords for a CSV that has none, and write them here.",
)
@JSON
@CONFIG
def import_(
    *,
    file: Path,
    existing: Existing,
    allow_weaker: bool,
    allow_one_mechanism: bool,
    make_passwords: Path | None,
    as_json: bool,
    config_file: Path | None,
) -> None:
    """
    Add the users in FILE to the local store, all of them or none; - is standard input.

    FILE is what cms callbridge user export writes, or a CSV with the columns name (or
    userJid), password, and if wanted disabled and created.  All lines are checked first, and
    what is wrong is reported by line.  Who was disabled stays disabled.  A Callbridge
    that runs knows the users at once.
    """
    config, store = _open(config_file)
    reading = _read(file, config.link.domain)
    entries = _with_passwords(reading, make_passwords)
    if not reading.problems:
        reading.problems += compare(
            *(store, entries, existing),
            allow_weaker=allow_weaker,
            allow_one=allow_one_mechanism,
        )
    if reading.problems:
        _complain(file, reading.problems, as_json)
    if make_passwords is not None:
        _write(make_passwords, _passwords(entries))
    taken = take(store, _hashed(entries), existing)
    if as_json:
        print_json(asdict(taken))
    else:
        click.echo(
            f"{taken.added} added, {taken.replaced} replaced, {taken.kept} left as they were"
        )
    if taken.replaced and Daemon.find(config.state_dir) is not None:
        note(
            "sessions of those who were replaced go on until the link is made again: cms callbridge"
            " reconnect --even-if-up"
        )
    tell_namesakes(config, [entry.name for entry in entries])
    note(f"imported in {config.state_dir}")


def _open(config_file: Path | None) -> tuple[CallbridgeConfig, UserStore]:
    """The store is a database that a running daemon shares, so it is used in either case."""
    config = current_config(find_config(config_file, CALLBRIDGE))
    check_owner(config.state_dir)
    return config, UserStore(config.state_dir)


def _write(file: Path, lines: Iterable[str]) -> int:
    """
    Write lines for their owner alone.

    @return: How many.
    """
    number = 0
    try:
        if str(file) == "-":
            for number, line in enumerate(lines, 1):  # noqa: B007 - the last is returned
                click.echo(line)
            return number
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        with os.fdopen(os.open(file, flags, 0o600), "w", encoding="utf-8") as stream:
            try:
                for number, line in enumerate(lines, 1):  # noqa: B007
                    stream.write(f"{line}\n")
                stream.flush()
                os.fsync(stream.fileno())
            except BaseException:
                file.unlink()
                raise
    except FileExistsError:
        raise in_the_way(file) from None
    except OSError as problem:
        raise Complaint(f"{file}: {problem.strerror}. Cure: name another file.") from None
    return number


def _read(file: Path, domain: str) -> Reading:
    try:
        if str(file) == "-":
            return exchange.read(sys.stdin.buffer, domain)
        with file.open("rb") as stream:
            return exchange.read(stream, domain)
    except OSError as problem:
        raise Complaint(f"{file}: {problem.strerror}. Cure: name another file.") from None


def _with_passwords(reading: Reading, made: Path | None) -> list[Entry]:
    """The users; those without keys and password with one that is made."""
    entries = []
    for entry in reading.entries:
        if entry.keys or entry.password:
            entries.append(entry)
        elif made is None:
            told = f"{entry.name} has no password; --make-passwords makes them"
            reading.problems.append((entry.line, told))
        else:
            password = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
            entries.append(evolve(entry, password=password))
    return entries


def _passwords(entries: Sequence[Entry]) -> Iterator[str]:
    """A CSV of names and passwords."""
    made = ([entry.name, entry.password or ""] for entry in entries if not entry.keys)
    return _csv([["name", "password"], *made])


def _csv(rows: Iterable[list[str]]) -> Iterator[str]:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    yield from text.getvalue().splitlines()


def _hashed(entries: Sequence[Entry]) -> list[Entry]:
    """With keys made of the passwords, on all processors: it takes milliseconds each."""

    def hashed(entry: Entry) -> Entry:
        if entry.keys or entry.password is None:
            return entry
        keys = {
            mechanism: derive(
                entry.password, hash_name, secrets.token_bytes(SALT_BYTES), DEFAULT_ITERATIONS
            )
            for mechanism, hash_name in HASHES.items()
        }
        return evolve(entry, keys=keys, password=None)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(hashed, entries))


def _complain(file: Path, problems: Sequence[tuple[int, str]], as_json: bool) -> None:
    """
    Tell what is wrong with a file.

    @raise Wrong: always.
    """
    problems = sorted(problems)
    if as_json:
        print_json({"problems": [{"line": line, "problem": told} for line, told in problems]})
    for line, told in problems[:_MOST_TOLD]:
        note(f"line {line}: {told}")
    more = f" ({len(problems) - _MOST_TOLD} more not shown)" * (len(problems) > _MOST_TOLD)
    number = counted(len(problems), "problem")
    raise Wrong(f"{file}: {number}{more}, nothing was imported. Cure: mend these lines.")
