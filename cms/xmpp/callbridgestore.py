"""
The Callbridges that administration added: F{callbridges.sqlite3} in the state directory.

Secrets are held as they are: XEP-0114's proof needs the secret itself on both
sides, so a hash would not do.  The file is its owner's alone.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import frozen

from cms.configuration.tomlfile import Secret
from cms.state.database import Database, StoreError

SCHEMA_VERSION = 1
FILE_NAME = "callbridges.sqlite3"
SECRET_LENGTH = 24  # of 62 letters and digits: 142 bits
LEAST_SECRET, MOST_SECRET = 8, 512  # characters of a secret made elsewhere
MOST_OVERLAP = 30 * 86_400.0  # seconds
_ALPHABET = string.ascii_letters + string.digits
_SCHEMA = """
CREATE TABLE callbridges (
    name TEXT PRIMARY KEY,
    created REAL NOT NULL
) STRICT;
CREATE TABLE secrets (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL REFERENCES callbridges (name) ON DELETE CASCADE,
    secret TEXT NOT NULL,
    created REAL NOT NULL,
    expires REAL
) STRICT;
"""


class UnknownCallbridge(StoreError):
    """There is no Callbridge of this name."""


class CallbridgeExists(StoreError):
    """There is a Callbridge of this name already."""


@frozen
class HeldSecret:
    """
    A secret of a Callbridge.

    @ivar created: Seconds since the epoch.
    @ivar expires: The same; C{None} for the newest, which does not expire.
    """

    secret: Secret
    created: float
    expires: float | None


@frozen
class HeldCallbridge:
    """
    A Callbridge in the store.

    @ivar created: Seconds since the epoch.
    @ivar secrets: Those that are accepted, the newest first.
    """

    name: str
    created: float
    secrets: tuple[HeldSecret, ...]


def new_secret(choose: Callable[[str], str] = secrets.choice) -> Secret:
    """A random secret of letters and digits."""
    return Secret("".join(choose(_ALPHABET) for _ in range(SECRET_LENGTH)))


def check_secret(text: str) -> Secret:
    """
    A secret that was made elsewhere.

    @raise StoreError: it cannot be one; the text does not quote it.
    """
    value = text.strip()
    if not LEAST_SECRET <= len(value) <= MOST_SECRET or not value.isprintable():
        raise StoreError(
            f"a secret has {LEAST_SECRET} to {MOST_SECRET} characters and no control characters"
        )
    return Secret(value)


class CallbridgeStore:
    """
    The file, made when it is missing.  Names are those of
    L{cms.xmpp.registry.component_name}.

    Every method may raise L{StoreError} when the file cannot be used.

    @param now: Seconds since the epoch.
    @ivar database: For L{cms.state.database.ChangeWatch}.
    """

    def __init__(self, state_dir: Path, now: Callable[[], float]) -> None:
        self._now = now
        self.database = Database(state_dir / FILE_NAME, _SCHEMA, SCHEMA_VERSION)

    def add(self, name: str, secret: Secret) -> None:
        """
        @raise CallbridgeExists: and nothing is changed.
        """
        now = self._now()
        with self.database.open() as connection:
            added = connection.execute(
                "INSERT INTO callbridges VALUES (?, ?) ON CONFLICT DO NOTHING", (name, now)
            )
            if added.rowcount == 0:
                raise CallbridgeExists(f"there is a Callbridge {name} already")
            _insert(connection, name, secret, now)

    def delete(self, name: str) -> None:
        """
        @raise UnknownCallbridge: there is none.
        """
        with self.database.open() as connection:
            deleted = connection.execute("DELETE FROM callbridges WHERE name = ?", (name,))
            if deleted.rowcount == 0:
                raise UnknownCallbridge(f"there is no Callbridge {name}")

    def rotate(self, name: str, secret: Secret, overlap: float) -> None:
        """
        Accept a new secret from now on, and those before it for C{overlap} more
        seconds; one that expires earlier keeps its time.

        @raise UnknownCallbridge: there is none.
        """
        if not 0 <= overlap <= MOST_OVERLAP:  # also false for nan
            raise StoreError(f"the overlap is from 0 to {MOST_OVERLAP:.0f} seconds")
        now = self._now()
        with self.database.open() as connection:
            changed = connection.execute(
                "UPDATE secrets SET expires = min(coalesce(expires, ?2), ?2) WHERE name = ?1",
                (name, now + overlap),
            )
            if changed.rowcount == 0:
                raise UnknownCallbridge(f"there is no Callbridge {name}")
            # Remove the expired ones, and an older entry of the new one.
            connection.execute(
                "DELETE FROM secrets WHERE name = ? AND (expires <= ? OR secret = ?)",
                (name, now, secret.value),
            )
            _insert(connection, name, secret, now)

    def callbridges(self) -> list[HeldCallbridge]:
        """All, by name, with the secrets that are accepted now."""
        with self.database.open() as connection:
            rows = connection.execute("SELECT name, created FROM callbridges ORDER BY name")
            created = dict(rows.fetchall())
            held = connection.execute(
                "SELECT name, secret, created, expires FROM secrets"
                " WHERE coalesce(expires > ?, true) ORDER BY number DESC",
                (self._now(),),
            ).fetchall()
        return [
            HeldCallbridge(
                name,
                since,
                tuple(
                    HeldSecret(Secret(text), *times)
                    for owner, text, *times in held
                    if owner == name
                ),
            )
            for name, since in created.items()
        ]


def _insert(connection: Any, name: str, secret: Secret, now: float) -> None:
    connection.execute(
        "INSERT INTO secrets (name, secret, created) VALUES (?, ?, ?)", (name, secret.value, now)
    )
