"""
The local user store: SQLite in the state directory.

It holds SCRAM keys and no password.  How a running daemon looks keys up is described in
L{cms.callbridge.directories.directory}; it makes changes in other threads.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from attrs import frozen

from cms.callbridge.passwords.saslprep import SASLPrepError
from cms.callbridge.passwords.scram import (
    DEFAULT_ITERATIONS,
    HASHES,
    SALT_BYTES,
    StoredKeys,
    derive,
)
from cms.linkprotocol.join import is_visitor
from cms.linkprotocol.people import tidy
from cms.state.database import Database, StoreError, StoreUnusable
from cms.xmlstream.jid import MalformedJID, parse_jid

__all__ = [
    "SCHEMA_VERSION",
    "StoreError",
    "User",
    "UserStore",
    "end_sessions",
    "find_end",
    "find_keys",
    "find_shown",
    "shown_names",
    "user_name",
    "write_keys",
    "write_shown",
]

FILE = "users.sqlite3"
SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    created TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%SZ', 'now')),
    disabled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE scram (
    name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    mechanism TEXT NOT NULL,
    salt BLOB NOT NULL,
    iterations INTEGER NOT NULL,
    stored_key BLOB NOT NULL,
    server_key BLOB NOT NULL,
    PRIMARY KEY (name, mechanism)
) STRICT;
CREATE TABLE installation (decoy BLOB NOT NULL) STRICT;
"""
_HAS_SHOWN = "SELECT 1 FROM sqlite_schema WHERE name = 'shown'"
_HAS_DEPARTED = "SELECT 1 FROM sqlite_schema WHERE name = 'departed'"


@frozen
class User:
    """An entry of the list of users; C{shown} is the name for people."""

    name: str
    created: str
    disabled: bool
    shown: str = ""


def user_name(text: str, domain: str) -> str:
    """
    The prepared local part of C{alice} or C{alice@domain}.

    @raise StoreError: it is no user of this domain.
    """
    try:
        jid = parse_jid(text if "@" in text else f"{text}@{domain}")
    except MalformedJID as problem:
        raise StoreError(f"{text} is not a user address: {problem}") from None
    if jid.user is None or jid.resource is not None or jid.host != domain:
        raise StoreError(f"{text} is not a user of {domain}")
    return str(jid.user)


def is_stored(state_dir: Path, name: str) -> bool:
    """
    Whether the store of a Callbridge that does not run has a user, as far as this user may know:
    files that root made beside it would keep the daemon out.
    """
    try:
        if (state_dir / FILE).stat().st_uid != os.geteuid():
            return False
        return any(user.name == name for user in UserStore(state_dir).users())
    except (OSError, StoreUnusable):
        return False


class UserStore:
    """
    The file F{users.sqlite3} in a state directory, made when it is missing:
    only its owner can read it.

    @param random_bytes: Where salts come from.
    @raise StoreUnusable: it cannot be opened, or a newer version wrote it.
    """

    def __init__(
        self, state_dir: Path, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self.path = state_dir / FILE
        self._random_bytes = random_bytes
        self.database = Database(self.path, _SCHEMA, SCHEMA_VERSION, self._fill)
        self.open = self.database.open

    def _fill(self, connection: sqlite3.Connection) -> None:
        decoy = (self._random_bytes(32),)
        connection.execute("INSERT INTO installation VALUES (?)", decoy)

    def set_password(
        self, name: str, password: str, *, iterations: int = DEFAULT_ITERATIONS
    ) -> bool:
        """
        Add a user, or change the password of one.

        @param name: The prepared local part, see L{user_name}.
        @param iterations: See L{DEFAULT_ITERATIONS}.
        @return: Whether the user is new.
        @raise StoreError: the password cannot be used, or the name is one of guests, which
            are never looked up here.
        """
        if is_visitor(name):
            raise StoreError(f"{name} is what the address of a guest looks like: choose another")
        try:
            keys = self._make_keys(password, iterations)
        except SASLPrepError as problem:
            raise StoreError(f"the password cannot be used: {problem}") from None
        with self.open() as connection:
            added = connection.execute(
                "INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING", (name,)
            )
            write_keys(connection, name, keys)
            if added.rowcount != 1:
                end_sessions(connection, name, "password")
            return added.rowcount == 1

    def _make_keys(self, password: str, iterations: int) -> dict[str, StoredKeys]:
        return {
            mechanism: derive(password, hash_name, self._random_bytes(SALT_BYTES), iterations)
            for mechanism, hash_name in HASHES.items()
        }

    def complete(self, name: str, password: str, stored_key: bytes) -> None:
        """
        A user has keys for one mechanism alone: make those for all.  Sessions go on.

        @param password: Which was right for C{stored_key}; if he has another meanwhile, nothing
            is changed.
        """
        keys = self._make_keys(password, DEFAULT_ITERATIONS)
        with self.open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            same = "SELECT 1 FROM scram WHERE name = ? AND stored_key = ?"
            if connection.execute(same, (name, stored_key)).fetchone() is not None:
                write_keys(connection, name, keys)

    def without_keys(self, mechanism: str) -> int:
        """How many users there are for whom this mechanism cannot work."""
        with self.open() as connection:
            lacking = "SELECT count(*) FROM users WHERE name NOT IN"
            found = "(SELECT name FROM scram WHERE mechanism = ?)"
            (number,) = connection.execute(f"{lacking} {found}", (mechanism,)).fetchone()
            return int(number)

    def delete(self, name: str) -> bool:
        """
        @return: Whether there was such a user.
        """
        with self.open() as connection:
            deleted = connection.execute("DELETE FROM users WHERE name = ?", (name,))
            if deleted.rowcount == 1:
                end_sessions(connection, name, "deleted")
                _depart(connection, name)
            return deleted.rowcount == 1

    def departed(self) -> list[str]:
        """The names of those who were deleted, and whom the XMPP server was not told of."""
        with self.open() as connection:
            if connection.execute(_HAS_DEPARTED).fetchone() is None:
                return []
            return [name for (name,) in connection.execute("SELECT name FROM departed")]

    def told_of(self, name: str) -> None:
        """It was told of this one."""
        with self.open() as connection:
            if connection.execute(_HAS_DEPARTED).fetchone() is not None:
                connection.execute("DELETE FROM departed WHERE name = ?", (name,))

    def set_disabled(self, name: str, disabled: bool) -> bool:
        """
        Disable an account, or enable it again.

        @return: Whether there is such a user.
        """
        with self.open() as connection:
            changed = connection.execute(
                "UPDATE users SET disabled = ? WHERE name = ?", (disabled, name)
            )
            if disabled and changed.rowcount == 1:
                end_sessions(connection, name, "disabled")
            return changed.rowcount == 1

    def users(self) -> list[User]:
        """All users by name."""
        with self.open() as connection:
            shown = shown_names(connection)
            rows = connection.execute("SELECT name, created, disabled FROM users ORDER BY name")
            return [
                User(name, created, bool(disabled), shown.get(name, ""))
                for name, created, disabled in rows
            ]

    def set_shown(self, name: str, shown: str) -> bool:
        """
        Give a user a name for people; empty: none.

        @return: Whether there is such a user.
        """
        with self.open() as connection:
            there = connection.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone()
            if there is not None:
                write_shown(connection, name, shown)
            return there is not None

    def decoy_key(self) -> bytes:
        """The secret from which the salts of unknown users are made."""
        with self.open() as connection:
            (key,) = connection.execute("SELECT decoy FROM installation").fetchone()
            return bytes(key)


def write_keys(connection: sqlite3.Connection, name: str, keys: Mapping[str, StoredKeys]) -> None:
    """These are a user's, by mechanism, and no others."""
    connection.execute("DELETE FROM scram WHERE name = ?", (name,))
    connection.executemany(
        "INSERT INTO scram VALUES (?, ?, ?, ?, ?, ?)",
        [
            (name, mechanism, k.salt, k.iterations, k.stored_key, k.server_key)
            for mechanism, k in keys.items()
        ],
    )


def end_sessions(connection: sqlite3.Connection, name: str, reason: str) -> None:
    """
    A user's sessions that began before now are over.

    The table is made when it is first needed: an older version of this program reads the
    file as before, and a start needs no room on the disk.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS ended"
        " (name TEXT PRIMARY KEY, moment TEXT NOT NULL, reason TEXT NOT NULL) STRICT"
    )
    connection.execute(
        "INSERT OR REPLACE INTO ended VALUES (?, strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'), ?)",
        (name, reason),
    )


def _depart(connection: sqlite3.Connection, name: str) -> None:
    """The XMPP server is to be told that a user is none any more; for the table see above."""
    connection.execute("CREATE TABLE IF NOT EXISTS departed (name TEXT PRIMARY KEY) STRICT")
    connection.execute("INSERT OR REPLACE INTO departed VALUES (?)", (name,))


def find_end(cursor: sqlite3.Cursor, name: str, since: datetime) -> str | None:
    """
    Why a user's session that began then is over.

    @return: C{None} if it is not.
    """
    user = cursor.execute("SELECT disabled FROM users WHERE name = ?", (name,)).fetchone()
    if user is None:
        return "deleted"
    if user[0]:
        return "disabled"
    if cursor.execute("SELECT 1 FROM sqlite_schema WHERE name = 'ended'").fetchone() is None:
        return None
    ended = cursor.execute("SELECT moment, reason FROM ended WHERE name = ?", (name,)).fetchone()
    over = ended is not None and since < datetime.fromisoformat(ended[0])
    return str(ended[1]) if over else None


def write_shown(connection: sqlite3.Connection, name: str, shown: str) -> None:
    """The name for people; its table is made when it is first needed, as of L{end_sessions}."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS shown (name TEXT PRIMARY KEY REFERENCES users (name)"
        " ON DELETE CASCADE, shown TEXT NOT NULL) STRICT"
    )
    connection.execute("DELETE FROM shown WHERE name = ?", (name,))
    if shown := tidy(shown):
        connection.execute("INSERT INTO shown VALUES (?, ?)", (name, shown))


def shown_names(connection: sqlite3.Connection) -> dict[str, str]:
    """The names for people of those who have one."""
    if connection.execute(_HAS_SHOWN).fetchone() is None:
        return {}
    return dict(connection.execute("SELECT name, shown FROM shown").fetchall())


def find_shown(cursor: sqlite3.Cursor, name: str) -> str | None:
    """
    A user's name for people; empty if he has none.

    @return: C{None} if there is no such user.
    """
    if cursor.execute("SELECT 1 FROM users WHERE name = ?", (name,)).fetchone() is None:
        return None
    if cursor.execute(_HAS_SHOWN).fetchone() is None:
        return ""
    row = cursor.execute("SELECT shown FROM shown WHERE name = ?", (name,)).fetchone()
    return "" if row is None else str(row[0])


def find_keys(cursor: sqlite3.Cursor, name: str, mechanism: str) -> StoredKeys | None:
    """A user's keys for a mechanism."""
    row = cursor.execute(
        "SELECT salt, iterations, stored_key, server_key, disabled"
        " FROM scram JOIN users USING (name) WHERE name = ? AND mechanism = ?",
        (name, mechanism),
    ).fetchone()
    if row is None:
        return None
    salt, iterations, stored_key, server_key, disabled = row
    return StoredKeys(salt, iterations, stored_key, server_key, bool(disabled))
