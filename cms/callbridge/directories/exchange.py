"""
Users in a file: all of the local store, or those that are to be added to it.

Two forms are read.  The one that is written holds SCRAM keys (RFC 5802 3): lines of JSON, the first
names the format, each other one is a user (docs/operate.md shows them).  The other is CSV with a
header, with passwords in clear or with names alone.  Nothing of either is quoted in a complaint but
names.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import IO, Any, Literal

from attrs import define, field, frozen

from cms.callbridge.directories.store import (
    StoreError,
    UserStore,
    end_sessions,
    shown_names,
    user_name,
    write_keys,
    write_shown,
)
from cms.callbridge.passwords.saslprep import SASLPrepError, saslprep
from cms.callbridge.passwords.scram import DEFAULT_ITERATIONS, HASHES, StoredKeys
from cms.linkprotocol.join import is_visitor
from cms.linkprotocol.people import tidy

FORMAT, VERSION = "cms-users", 1
MOST_LINE, MOST_USERS = 16_384, 1_000_000
LEAST_ITERATIONS = 4_096  # RFC 7677 4
# One PLAIN log-in computes as many here; more would keep a processor for seconds.
MOST_ITERATIONS = 1_000_000
_SALTS = range(8, 65)  # bytes
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_COLUMNS = {"name", "userJid", "password", "disabled", "created", "displayName"}
_KEYS = {"name", "created", "disabled", "scram", "displayName"}
_TRUTH = {"": False, "false": False, "0": False, "no": False, "true": True, "1": True, "yes": True}
Existing = Literal["refuse", "keep", "replace"]


@frozen
class Entry:
    """
    One user of a file.

    @ivar line: Its number in the file, from 1.
    @ivar keys: By mechanism; empty if they are still to be made of C{password}.
    @ivar password: C{None} if there is none: one is to be made, or there are keys.
    @ivar created: C{None} if the file does not say.
    @ivar shown: The name for people; C{None} likewise.
    """

    line: int
    name: str
    disabled: bool = False
    created: str | None = None
    shown: str | None = None
    keys: Mapping[str, StoredKeys] = field(factory=dict, repr=False)
    password: str | None = field(default=None, repr=False)


@define
class Reading:
    """
    A file as it was read.

    @ivar problems: What is wrong, by line.
    """

    entries: list[Entry] = field(factory=list)
    problems: list[tuple[int, str]] = field(factory=list)


@frozen
class Taken:
    """How many users were added, replaced, and left as they were."""

    added: int
    replaced: int
    kept: int


class _Wrong(Exception):
    """What is wrong with a line."""


# writing


def written(store: UserStore, domain: str) -> Iterator[str]:
    """The lines of a file with all users and their keys, as they are at one moment."""
    yield json.dumps({"format": FORMAT, "version": VERSION, "domain": domain})
    with store.open() as connection:
        connection.execute("BEGIN")
        shown = shown_names(connection)
        users = connection.execute("SELECT name, created, disabled FROM users ORDER BY name")
        for name, created, disabled in users:
            scram = {
                mechanism: {
                    "iterations": iterations,
                    "salt": _text(salt),
                    "storedKey": _text(stored_key),
                    "serverKey": _text(server_key),
                }
                for mechanism, salt, iterations, stored_key, server_key in connection.execute(
                    "SELECT mechanism, salt, iterations, stored_key, server_key FROM scram"
                    " WHERE name = ? ORDER BY mechanism",
                    (name,),
                )
            }
            facts = {"name": name, "created": created, "disabled": bool(disabled), "scram": scram}
            if name in shown:  # a version that does not know it reads all the others
                facts["displayName"] = shown[name]
            yield json.dumps(facts, ensure_ascii=False)


def names(store: UserStore, domain: str) -> Iterator[list[str]]:
    """The rows of a CSV without secrets."""
    yield ["name", "userJid", "created", "disabled", "displayName"]
    for user in store.users():
        address = f"{user.name}@{domain}"
        yield [user.name, address, user.created, str(user.disabled).lower(), user.shown]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# reading


def read(stream: IO[bytes], domain: str) -> Reading:
    """
    Read a file, and check each line by itself.

    @param domain: Addresses are of this one; a name alone is, too.
    """
    reading = Reading()
    lines = _lines(stream, reading)
    first = next(lines, "")
    if first.lstrip().startswith("{"):
        _read_json(first, lines, domain, reading)
    else:
        _read_csv(chain([first], lines), domain, reading)
    seen: dict[str, int] = {}
    for entry in reading.entries:
        if entry.name in seen:
            reading.problems.append(
                (entry.line, f"{entry.name} is in line {seen[entry.name]} already")
            )
        seen.setdefault(entry.name, entry.line)
    return reading


def _lines(stream: IO[bytes], reading: Reading) -> Iterator[str]:
    for number in range(1, MOST_USERS + 2):
        line = stream.readline(MOST_LINE + 1)
        if not line:
            return
        if len(line) > MOST_LINE:
            reading.problems.append((number, f"it has more than {MOST_LINE} bytes"))
            return
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            reading.problems.append((number, "it is not UTF-8"))
            return
    reading.problems.append((MOST_USERS + 2, f"there are more than {MOST_USERS:,} users"))


def _read_json(first: str, lines: Iterator[str], domain: str, reading: Reading) -> None:
    head = _json(first)
    if head is None or head.get("format") != FORMAT:
        reading.problems.append((1, f'it does not say "format": "{FORMAT}"'))
        return
    if head.get("version") != VERSION:
        reading.problems.append((1, f"it is of another version than {VERSION}"))
        return
    for number, line in enumerate(lines, 2):
        if line.strip():
            _take(reading, number, _entry_of_json, _json(line), domain)


def _take(
    reading: Reading, number: int, entry: Callable[..., Mapping[str, Any]], *arguments: object
) -> None:
    try:
        reading.entries.append(Entry(number, **entry(*arguments)))
    except _Wrong as problem:
        reading.problems.append((number, str(problem)))


def _json(line: str) -> dict[str, Any] | None:
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def _entry_of_json(plain: dict[str, Any] | None, domain: str) -> Mapping[str, Any]:
    if plain is None or plain.keys() - _KEYS:
        raise _Wrong("it is no user of this format")
    name, scram = _name(plain.get("name"), domain), plain.get("scram")
    disabled = plain.get("disabled", False)
    if not isinstance(disabled, bool) or not isinstance(scram, dict):
        raise _Wrong(f"{name}: disabled or scram is missing or wrong")
    if not scram or scram.keys() - HASHES.keys():
        raise _Wrong(f"{name}: {'unknown mechanisms' if scram else 'no keys'}")
    keys = {mechanism: _keys(name, mechanism, plain) for mechanism, plain in scram.items()}
    created, shown = _created(name, plain.get("created")), plain.get("displayName", "")
    if not isinstance(shown, str):
        raise _Wrong(f"{name}: displayName is no text")
    facts = {"name": name, "disabled": disabled, "created": created, "keys": keys}
    return {**facts, "shown": tidy(shown)}


def _keys(name: str, mechanism: str, plain: Any) -> StoredKeys:
    size = hashlib.new(HASHES[mechanism]).digest_size
    try:
        salt, stored_key, server_key = (
            base64.b64decode(plain[key], validate=True)
            for key in ("salt", "storedKey", "serverKey")
        )
        iterations = plain["iterations"]
        fits = len(stored_key) == len(server_key) == size and len(salt) in _SALTS
        if fits and isinstance(iterations, int) and iterations <= MOST_ITERATIONS:
            if iterations < LEAST_ITERATIONS:
                raise _Wrong(f"{name}: fewer than {LEAST_ITERATIONS} iterations (RFC 7677)")
            return StoredKeys(salt, iterations, stored_key, server_key)
    except (TypeError, KeyError, ValueError):
        pass
    raise _Wrong(f"{name}: the keys for {mechanism} are none")


def _read_csv(lines: Iterator[str], domain: str, reading: Reading) -> None:
    rows = csv.DictReader(lines, strict=True)
    try:
        names = rows.fieldnames or ()
        header = set(names)
        if not header & {"name", "userJid"} or header - _COLUMNS or len(header) < len(names):
            known = ", ".join(sorted(_COLUMNS))
            told = f"its header has no name, or others than {known}, each once, commas between them"
            reading.problems.append((1, told))
            return
        for row in rows:
            _take(reading, rows.line_num, _entry_of_row, row, domain)
    except csv.Error:
        reading.problems.append((rows.reader.line_num, "it is no CSV"))


def _entry_of_row(row: Mapping[str | None, Any], domain: str) -> Mapping[str, Any]:
    if None in row or None in row.values():
        raise _Wrong("it has more or fewer fields than the header")
    name = _name(row.get("userJid") or row.get("name"), domain)
    disabled = _TRUTH.get(row.get("disabled", "").strip().lower())
    if disabled is None:
        raise _Wrong(f"{name}: disabled is true or false")
    password = row.get("password")
    if password is not None:
        try:
            saslprep(password)
        except SASLPrepError as problem:
            raise _Wrong(f"{name}: the password cannot be used: {problem}") from None
    created = _created(name, row.get("created") or None)
    shown = row.get("displayName")
    facts = {"name": name, "disabled": disabled, "created": created, "password": password}
    return {**facts, "shown": None if shown is None else tidy(shown)}


def _name(text: Any, domain: str) -> str:
    if not isinstance(text, str) or not text:
        raise _Wrong("it has no name")
    try:
        name = user_name(text, domain)
    except StoreError as problem:
        raise _Wrong(str(problem)) from None
    if is_visitor(name):
        raise _Wrong(f"{name} is what the address of a guest looks like")
    return name


def _created(name: str, text: Any) -> str | None:
    if text is None or (isinstance(text, str) and _CREATED.fullmatch(text)):
        return text
    raise _Wrong(f"{name}: created is no time such as 2026-11-29T03:00:00Z")


# into the store


def compare(
    store: UserStore,
    entries: Iterable[Entry],
    existing: Existing,
    *,
    allow_weaker: bool,
    allow_one: bool = False,
) -> list[tuple[int, str]]:
    """
    What stands against taking these users, by line.

    @param existing: What becomes of a user that is in the store already.
    @param allow_weaker: Keys may have fewer iterations than those in the store, or than this
        version makes.
    @param allow_one: A user may have keys for one mechanism alone.
    """
    problems = []
    with store.open() as connection:
        for entry in entries:
            there = _iterations(connection, entry.name)
            if there and existing == "refuse":
                problems.append((entry.line, f"{entry.name} is a user already"))
            if (there and existing != "replace") or not entry.keys:
                continue
            missing = sorted(HASHES.keys() - entry.keys.keys())
            if missing and not allow_one:
                # Each mechanism is offered to everybody: it would fail for who has no keys for it.
                problems.append((entry.line, f"{entry.name}: no keys for {', '.join(missing)}"))
            if allow_weaker:
                continue
            for mechanism, keys in entry.keys.items():
                wanted = there.get(mechanism, DEFAULT_ITERATIONS)
                if keys.iterations < wanted:
                    told = f"{keys.iterations} iterations for {mechanism}, fewer than {wanted}"
                    problems.append((entry.line, f"{entry.name}: {told}"))
                    break
    return problems


def _iterations(connection: sqlite3.Connection, name: str) -> dict[str, int]:
    """Of a user's keys, by mechanism; empty if there is no such user."""
    rows = connection.execute(
        "SELECT mechanism, iterations FROM users LEFT JOIN scram USING (name) WHERE name = ?",
        (name,),
    )
    return dict(rows.fetchall())


def _is_there(connection: sqlite3.Connection, entry: Entry) -> bool:
    """Whether a user has these keys already, and is disabled or not as here."""
    rows = connection.execute(
        "SELECT mechanism, salt, iterations, stored_key, server_key, disabled"
        " FROM users LEFT JOIN scram USING (name) WHERE name = ?",
        (entry.name,),
    )
    disabled, keys = False, {}
    for mechanism, salt, iterations, stored_key, server_key, is_disabled in rows:
        keys[mechanism] = StoredKeys(salt, iterations, stored_key, server_key)
        disabled = bool(is_disabled)
    return keys == dict(entry.keys) and disabled == entry.disabled


def take(store: UserStore, entries: Iterable[Entry], existing: Existing) -> Taken:
    """
    Put users into the store, all or none.

    Sessions of who is replaced are over, see L{end_sessions}.

    @param entries: With their keys.
    @raise StoreError: a user has come meanwhile that must not be there; nothing was changed.
    """
    added = replaced = kept = 0
    with store.open() as connection:
        connection.execute("BEGIN IMMEDIATE")
        for entry in entries:
            new = connection.execute(
                "INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING", (entry.name,)
            )
            if new.rowcount:
                added += 1
            elif existing == "refuse":
                raise StoreError(f"{entry.name} is a user already")
            elif existing == "keep" or _is_there(connection, entry):
                kept += 1
                if existing == "replace" and entry.shown is not None:
                    write_shown(connection, entry.name, entry.shown)  # that ends no session
                continue
            else:
                replaced += 1
                end_sessions(connection, entry.name, "disabled" if entry.disabled else "password")
            connection.execute(
                "UPDATE users SET disabled = ?2, created = coalesce(?3, created) WHERE name = ?1",
                (entry.name, entry.disabled, entry.created),
            )
            if entry.shown is not None:
                write_shown(connection, entry.name, entry.shown)
            write_keys(connection, entry.name, entry.keys)
    return Taken(added, replaced, kept)
