"""
The Callbridges that administration added: F{callbridges.sqlite3} in the state directory.

Secrets are held as they are: XEP-0114's proof needs the secret itself on both
sides, so a hash would not do.  The file is its owner's alone.

Each change has a stamp, and what was deleted keeps one, so that the servers of a cluster can
tell whose entry is the newer (docs/design/cluster.md).
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
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
MOST_DELETED = 1_000  # names that are known to be deleted
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
# Of a file that an older version has made, or written to, the newest secret says when.
_CHANGES = """
CREATE TABLE IF NOT EXISTS changes (
    name TEXT PRIMARY KEY,
    stamp INTEGER NOT NULL
) STRICT
"""
# The oldest of those that are too many.
_FORGET = """
DELETE FROM changes WHERE name NOT IN (SELECT name FROM callbridges) AND name NOT IN (
    SELECT name FROM changes WHERE name NOT IN (SELECT name FROM callbridges)
    ORDER BY stamp DESC LIMIT ?
)
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


@frozen
class CallbridgeRecord:
    """
    The last change to a name.

    @ivar stamp: When, in milliseconds since the epoch, and later than the one before.
    @ivar held: What it is since; C{None}: it was deleted.
    """

    stamp: int
    held: HeldCallbridge | None


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
        self.database = Database(
            state_dir / FILE_NAME, _SCHEMA, SCHEMA_VERSION, additions=(_CHANGES,)
        )

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
            _stamp(connection, name, now)

    def delete(self, name: str) -> None:
        """
        @raise UnknownCallbridge: there is none.
        """
        with self.database.open() as connection:
            _stamp(connection, name, self._now())
            deleted = connection.execute("DELETE FROM callbridges WHERE name = ?", (name,))
            if deleted.rowcount == 0:
                raise UnknownCallbridge(f"there is no Callbridge {name}")
            connection.execute(_FORGET, (MOST_DELETED,))

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
            _stamp(connection, name, now)

    def callbridges(self) -> list[HeldCallbridge]:
        """All, by name, with the secrets that are accepted now."""
        return [record.held for record in self.records().values() if record.held is not None]

    def records(self) -> dict[str, CallbridgeRecord]:
        """The last change to each name, in the order of names."""
        with self.database.open() as connection:
            stamps = dict(connection.execute("SELECT name, stamp FROM changes").fetchall())
            created = dict(connection.execute("SELECT name, created FROM callbridges").fetchall())
            held = connection.execute(
                "SELECT name, secret, created, expires FROM secrets"
                " WHERE coalesce(expires > ?, true) ORDER BY number DESC",
                (self._now(),),
            ).fetchall()
        secrets_of: dict[str, list[HeldSecret]] = {name: [] for name in created}
        for name, text, *times in held:
            secrets_of[name].append(HeldSecret(Secret(text), *times))
        found = {}
        for name in sorted({*stamps, *created}):
            since, own = created.get(name), tuple(secrets_of.get(name, ()))
            made = max((_milliseconds(each.created) for each in own), default=0)
            known = None if since is None else HeldCallbridge(name, since, own)
            found[name] = CallbridgeRecord(max(stamps.get(name, 0), made), known)
        return found

    def take(self, records: Mapping[str, CallbridgeRecord]) -> None:
        """Replace what is held of these names, with its stamp: another server has changed it."""
        with self.database.open() as connection:
            for name, record in records.items():
                connection.execute("DELETE FROM callbridges WHERE name = ?", (name,))
                connection.execute(
                    "INSERT INTO changes VALUES (?1, ?2) ON CONFLICT DO UPDATE SET stamp = ?2",
                    (name, record.stamp),
                )
                if record.held is not None:
                    connection.execute(
                        "INSERT INTO callbridges VALUES (?, ?)", (name, record.held.created)
                    )
                    for held in reversed(record.held.secrets):
                        _insert(connection, name, held.secret, held.created, held.expires)
            connection.execute(_FORGET, (MOST_DELETED,))


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _stamp(connection: Any, name: str, now: float) -> None:
    """Note a change, as later than the one before whatever the clock says."""
    connection.execute(
        "INSERT INTO changes VALUES (?1, ?2)"
        " ON CONFLICT DO UPDATE SET stamp = max(stamp + 1, excluded.stamp)",
        (name, _milliseconds(now)),
    )


def _insert(
    connection: Any, name: str, secret: Secret, created: float, expires: float | None = None
) -> None:
    connection.execute(
        "INSERT INTO secrets (name, secret, created, expires) VALUES (?, ?, ?, ?)",
        (name, secret.value, created, expires),
    )
