"""
The local user store: SQLite in the state directory.

It holds SCRAM keys and no password.  How a running daemon looks keys up is described in
L{cms.callbridge.directories.directory}; it makes changes in other threads.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
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
from cms.state.database import Database, StoreError
from cms.xmlstream.jid import MalformedJID, parse_jid

__all__ = ["SCHEMA_VERSION", "StoreError", "User", "UserStore", "find_keys", "user_name"]

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
    except MalformedJID as problem:
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
        database = Database(self.path, _SCHEMA, SCHEMA_VERSION, self._fill)
        self.open = database.open

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
        Disable an account, or enable it again.

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
        """The secret from which the salts of unknown users are made."""
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
