"""
The local user store: SQLite in the state directory.

It holds SCRAM keys and never a password.  The functions are synchronous; the
command line calls them as they are, the daemon through a pool of threads.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from cms.callbridge.saslprep import SASLPrepError
from cms.callbridge.scram import DEFAULT_ITERATIONS, HASHES, SALT_BYTES, StoredKeys, derive
from cms.xmlstream.jid import MalformedJID, parse_jid

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


class StoreError(Exception):
    """The store cannot do what was asked; the text says why, in plain words."""


@frozen
class User:
    """An entry of the list of users."""

    name: str
    created: str
    disabled: bool


def user_name(text: str, domain: str) -> str:
    """
    The prepared local part of C{alice} or C{alice@domain}.

    @raise StoreError: it is no user of this domain.
    """
    try:
        jid = parse_jid(text if "@" in text else f"{text}@{domain}")
    except (MalformedJID, IndexError) as problem:
        # IndexError: an empty label of the domain, in twisted.words' nameprep
        raise StoreError(f"{text} is not a user address: {problem}") from None
    if jid.user is None or jid.resource is not None or jid.host != domain:
        raise StoreError(f"{text} is not a user of {domain}")
    return str(jid.user)


class UserStore:
    """
    The file F{users.sqlite3} in a state directory, made when it is missing:
    only its owner can read it.

    @param random_bytes: Where salts come from.
    @raise StoreError: it cannot be opened, or a newer version wrote it.
    """

    def __init__(
        self, state_dir: Path, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> None:
        self.path = state_dir / "users.sqlite3"
        self._random_bytes = random_bytes
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._make_private()
            with self.open() as connection:
                self._prepare(connection)
        except (OSError, sqlite3.Error) as problem:
            raise StoreError(f"{self.path} cannot be used: {problem}") from None

    @contextmanager
    def open(self) -> Iterator[sqlite3.Connection]:
        """A connection in a transaction."""
        connection = sqlite3.connect(self.path, timeout=5)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            with connection:
                yield connection
        finally:
            connection.close()

    def _make_private(self) -> None:
        """SQLite gives the files beside this one (F{-wal}, F{-shm}) the same mode."""
        descriptor = os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StoreError(f"{self.path} was written by a newer version of this program")
        if version == 0:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")  # two processes may start at once
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                for statement in _SCHEMA.split(";"):
                    connection.execute(statement)
                decoy = (self._random_bytes(32),)
                connection.execute("INSERT INTO installation VALUES (?)", decoy)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def set_password(
        self, name: str, password: str, *, iterations: int = DEFAULT_ITERATIONS
    ) -> bool:
        """
        Add a user, or change the password of one.

        @param name: The prepared local part, see L{user_name}.
        @param iterations: See L{DEFAULT_ITERATIONS}.
        @return: Whether the user is new.
        @raise StoreError: the password cannot be used.
        """
        try:
            keys = {
                mechanism: derive(password, hash_name, self._random_bytes(SALT_BYTES), iterations)
                for mechanism, hash_name in HASHES.items()
            }
        except SASLPrepError as problem:
            raise StoreError(f"the password cannot be used: {problem}") from None
        with self.open() as connection:
            added = connection.execute(
                "INSERT INTO users (name) VALUES (?) ON CONFLICT DO NOTHING", (name,)
            )
            connection.executemany(
                "INSERT OR REPLACE INTO scram VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (name, mechanism, k.salt, k.iterations, k.stored_key, k.server_key)
                    for mechanism, k in keys.items()
                ],
            )
            return added.rowcount == 1

    def delete(self, name: str) -> bool:
        """
        @return: Whether there was such a user.
        """
        with self.open() as connection:
            return connection.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount == 1

    def set_disabled(self, name: str, disabled: bool) -> bool:
        """
        Close an account to log-ins, or open it again.

        @return: Whether there is such a user.
        """
        with self.open() as connection:
            changed = connection.execute(
                "UPDATE users SET disabled = ? WHERE name = ?", (disabled, name)
            )
            return changed.rowcount == 1

    def users(self) -> list[User]:
        """All users by name."""
        with self.open() as connection:
            rows = connection.execute("SELECT name, created, disabled FROM users ORDER BY name")
            return [User(name, created, bool(disabled)) for name, created, disabled in rows]

    def decoy_key(self) -> bytes:
        """The secret behind the salts that unknown users are shown."""
        with self.open() as connection:
            (key,) = connection.execute("SELECT decoy FROM installation").fetchone()
            return bytes(key)


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
